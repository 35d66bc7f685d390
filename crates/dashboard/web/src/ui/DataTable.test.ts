import { expect, it } from "vitest";

import { sorted } from "./DataTable";

it("sorts numbers by value and texts as people do, and keeps the order of equals", () => {
  const rows = [
    { name: "h10", size: 2 },
    { name: "h9", size: 10 },
    { name: "H1", size: 2 },
  ];
  const by = (value: (row: (typeof rows)[number]) => string | number, descending: boolean) =>
    sorted(rows, value, descending).map((row) => row.name);
  expect(by((row) => row.name, false)).toEqual(["H1", "h9", "h10"]);
  expect(by((row) => row.size, false)).toEqual(["h10", "H1", "h9"]);
  expect(by((row) => row.size, true)).toEqual(["h9", "h10", "H1"]);
});
