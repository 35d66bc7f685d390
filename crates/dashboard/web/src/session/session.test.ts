import { describe, expect, it } from "vitest";

import { sessionOf } from "./session";

const VIEW = {
  access_token: "t",
  token_type: "Bearer",
  expires_at: "2026-01-01T01:00:00Z",
  refresh_expires_at: "2026-02-01T00:00:00Z",
  refresh_token: null,
  account: { id: "1", name: "ann", role: "admin" },
};

describe("sessionOf", () => {
  it("counts the life of a token by the controller's clock, however wrong ours is", () => {
    const now = Date.parse("2020-05-05T05:05:05Z");
    const session = sessionOf(VIEW, "Thu, 01 Jan 2026 00:00:00 GMT", now);
    expect(session.expiresAt - now).toBe(3_600_000);
  });

  it("takes the time as it is where the controller's clock is not told", () => {
    expect(sessionOf(VIEW, null, 0).expiresAt).toBe(Date.parse("2026-01-01T01:00:00Z"));
  });
});
