import { expect, it } from "vitest";

import { returnPath } from "./router";

it("goes back to paths of ours only", () => {
  expect(returnPath("/nodes?sort=name")).toBe("/nodes?sort=name");
  for (const path of [
    undefined,
    "",
    "https://evil.example",
    "//evil.example",
    "/\\evil",
    "/sign-in?to=/",
    "nodes",
  ]) {
    expect(returnPath(path)).toBe("/");
  }
});
