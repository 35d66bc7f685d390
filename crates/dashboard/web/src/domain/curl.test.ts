import { expect, it } from "vitest";

import { asCurl } from "./curl";

it("quotes what a shell would take apart, and never holds a token", () => {
  expect(asCurl("GET", "/api/v1/nodes?a=1&b=2", "http://h")).toBe(
    `curl -sS -H "Authorization: Bearer $A67_TOKEN" 'http://h/api/v1/nodes?a=1&b=2'`,
  );
  expect(asCurl("POST", "/x", "http://h", { a: "it's" })).toBe(
    `curl -sS -X POST -H "Authorization: Bearer $A67_TOKEN" -H 'Content-Type: application/json' -d '{"a":"it'\\''s"}' 'http://h/x'`,
  );
});
