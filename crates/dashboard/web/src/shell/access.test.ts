import { expect, it } from "vitest";

import { accessOf } from "./access";

it("offers what the higher of two roles may", () => {
  const viewer = accessOf("viewer", [{ project: "shop", role: "operator" }]);
  expect([viewer.fleet, viewer.admin, viewer.operatesSomewhere]).toEqual([true, false, true]);
  expect([viewer.operates("shop"), viewer.operates("default")]).toEqual([true, false]);
});

it("offers nothing of the fleet to a mere member", () => {
  const member = accessOf("none", [{ project: "shop", role: "viewer" }]);
  expect([member.fleet, member.operatesSomewhere, member.operates("shop")]).toEqual([false, false, false]);
  expect(accessOf("something new", []).fleet).toBe(false);
});
