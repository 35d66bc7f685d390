import { afterEach, expect, it, vi } from "vitest";

import { ApiError } from "../api/problem";
import { say, sayFailed, useToasts } from "./toast";

afterEach(() => {
  useToasts.setState({ items: [] });
  vi.useRealTimers();
});

it("lets good news go by itself, and keeps bad news with the request's id", () => {
  vi.useFakeTimers();
  say("Done");
  sayFailed("Not deleted", new ApiError(409, "x", "It is in use.", "r-1", [], null));
  expect(useToasts.getState().items).toHaveLength(2);
  vi.runAllTimers();
  const left = useToasts.getState().items;
  expect(left.map((toast) => toast.detail)).toEqual(["It is in use. (request r-1)"]);
  useToasts.getState().drop(left[0]?.id ?? 0);
  expect(useToasts.getState().items).toEqual([]);
});

it("shows a few at a time", () => {
  for (let count = 0; count < 9; count += 1) say(`${count}`);
  expect(useToasts.getState().items.map((toast) => toast.title)).toEqual(["5", "6", "7", "8"]);
});
