import { describe, expect, it } from "vitest";

import { cleaned, EMPTY, fromParsed, joinCommand, splitCommand } from "./draft";

describe("draft", () => {
  it("sends nothing that is empty", () => {
    const draft = {
      ...EMPTY,
      name: "web",
      image: "nginx",
      env: {},
      ports: [],
      user: "",
      limits: { pids: undefined },
    };
    expect(cleaned(draft)).toEqual({ name: "web", image: "nginx", replicas: 1 });
  });

  it("keeps a zero and a false, which say something", () => {
    expect(cleaned({ ...EMPTY, replicas: 0, init: false })).toMatchObject({ replicas: 0, init: false });
  });

  it("splits commands as a shell does", () => {
    expect(splitCommand(`sh -c 'echo "a b"' x\\ y ""`)).toEqual(["sh", "-c", 'echo "a b"', "x y", ""]);
    expect(splitCommand("  ")).toEqual([]);
    expect(splitCommand("'open")).toBeNull();
  });

  it("joins what it splits", () => {
    for (const words of [
      ["a", "b c", "it's"],
      ["--x=1", ""],
      ['"q"', "a\\b"],
    ]) {
      expect(splitCommand(joinCommand(words))).toEqual(words);
    }
  });

  it("refuses what is no deployment", () => {
    expect(() => fromParsed([])).toThrow("mapping");
    expect(() => fromParsed({ name: 7 })).toThrow("name");
    expect(fromParsed({ image: "nginx" })).toEqual({ name: "", image: "nginx" });
  });
});
