import { expect, it } from "vitest";

import { EventParser } from "./sse";

const TEXT =
  'event: line\ndata: {"text":"ä"}\n\n: still here\n\ndata: a\ndata: b\n\nevent: end\ndata: {}\n\n';

it("puts events together wherever they were cut, and leaves comments out", () => {
  const whole = new EventParser().push(TEXT);
  expect(whole.map((event) => event.name)).toEqual(["line", "message", "end"]);
  expect(whole[1]?.data).toBe("a\nb");
  const parser = new EventParser();
  expect([...TEXT].flatMap((char) => parser.push(char))).toEqual(whole);
});
