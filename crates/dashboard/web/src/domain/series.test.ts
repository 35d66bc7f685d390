import { expect, it } from "vitest";

import { rate, timeline } from "./series";

const at = (seconds: number, value = 0) => ({ at: new Date(seconds * 1000).toISOString(), value });

it("turns readings round, and leaves a hole where some are missing", () => {
  const { times, samples } = timeline([at(122), at(120), at(14), at(12), at(10)]);
  expect(times).toEqual([10, 12, 14, 19, 120, 122]);
  expect(samples.map((sample) => sample === null)).toEqual([false, false, false, true, false, false]);
});

it("shows no rate over a hole or over a counter that began anew", () => {
  const { times, samples } = timeline([at(16, 5), at(14, 300), at(12, 100), at(10, 0)]);
  expect(rate(times, samples, (sample) => sample.value)).toEqual([null, 50, 100, null]);
});
