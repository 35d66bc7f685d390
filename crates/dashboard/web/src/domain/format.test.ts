import { describe, expect, it } from "vitest";

import { ago, bytes, cores, duration, parseBytes, percent } from "./format";

describe("format", () => {
  it("shows what is not known as unknown", () => {
    expect([bytes(null), cores(undefined), percent(null)]).toEqual(["–", "–", "–"]);
    expect([bytes(0), cores(0), percent(0)]).toEqual(["0 B", "0 cores", "0 %"]);
  });

  it("shows numbers in the unit that fits", () => {
    expect([bytes(1536), bytes(67_108_864), bytes(10_737_418_240)]).toEqual(["1.5 KiB", "64 MiB", "10 GiB"]);
    expect([cores(500), cores(1000), cores(2500)]).toEqual(["0.5 cores", "1 core", "2.5 cores"]);
  });

  it("shows times by their largest unit", () => {
    expect([duration(0), duration(59_999), duration(61_000), duration(3_600_000)]).toEqual([
      "0 s",
      "59 s",
      "1 min 1 s",
      "1 h",
    ]);
    expect(duration(3 * 86_400_000 + 5)).toBe("3 d");
    expect(ago(0, 90_000)).toBe("1 min 30 s ago");
    expect(ago(90_000, 0)).toBe("in 1 min 30 s");
    expect(ago(0, 500)).toBe("just now");
  });

  it("reads sizes as it shows them", () => {
    expect(["64 MiB", "1.5g", "512", "2KB"].map(parseBytes)).toEqual([67_108_864, 1_610_612_736, 512, 2048]);
    expect(["", "x", "-1", "1 XB"].map(parseBytes)).toEqual([null, null, null, null]);
  });
});
