import { expect, it } from "vitest";

import { matching } from "./palette";

const ENTRIES = [
  { label: "my-web", kind: "deployment", href: "/1" },
  { label: "web", kind: "deployment", href: "/2" },
  { label: "h1", kind: "node", href: "/3" },
];

it("finds by all words, and puts what begins so first", () => {
  expect(matching(ENTRIES, "web", 9).map((entry) => entry.href)).toEqual(["/2", "/1"]);
  expect(matching(ENTRIES, "deploy my", 9).map((entry) => entry.href)).toEqual(["/1"]);
  expect(matching(ENTRIES, "", 2)).toHaveLength(2);
  expect(matching(ENTRIES, "zzz", 9)).toEqual([]);
});
