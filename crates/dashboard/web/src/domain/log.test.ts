import { describe, expect, it } from "vitest";

import { append, asText, EMPTY_LOG, found, pieces, plain } from "./log";

describe("log", () => {
  it("lets the oldest lines go, and says how many", () => {
    let log = EMPTY_LOG;
    for (let count = 1; count <= 7; count += 1) log = append(log, [{ text: `${count}` }], 5);
    expect(log.lines.map((line) => line.text)).toEqual(["3", "4", "5", "6", "7"]);
    expect([log.dropped, log.lines[0]?.number]).toEqual([2, 3]);
  });

  it("shows no colours of a terminal", () => {
    expect(plain("\u001b[1;31mred\u001b[0m\r")).toBe("red");
  });

  it("finds and marks without regard to case", () => {
    const log = append(EMPTY_LOG, [{ text: "An Error" }, { text: "fine" }]);
    expect(found(log.lines, "error").map((line) => line.text)).toEqual(["An Error"]);
    expect(pieces("Error, error", "error")).toEqual(["", "Error", ", ", "error", ""]);
    expect(pieces("x", "")).toEqual(["x"]);
    expect(pieces("İerror", "error").join("")).toBe("İerror");
  });

  it("writes lines as they came", () => {
    const log = append(EMPTY_LOG, [{ at: "2026-01-01T00:00:00Z", text: "a" }, { text: "b" }]);
    expect(asText(log.lines)).toBe("2026-01-01T00:00:00Z a\nb\n");
  });
});
