import { describe, expect, it, vi } from "vitest";

import { authorised, isWorthARetry, take } from "./client";
import { ApiError } from "./problem";

const source = () => {
  let count = 1;
  return {
    token: () => Promise.resolve(`t${count}`),
    tokenAfter: (refused: string) => {
      if (refused === `t${count}`) count += 1;
      return Promise.resolve(`t${count}`);
    },
  };
};

describe("authorised", () => {
  it("shows the token, and sends a refused request once more with its body and another token", async () => {
    const seen: string[] = [];
    const base = vi.fn(async (input: RequestInfo | URL) => {
      const request = input as Request;
      seen.push(`${request.headers.get("authorization")} ${await request.text()}`);
      return new Response("{}", { status: seen.length === 1 ? 401 : 200 });
    });
    const request = new Request("http://a.example/x", { method: "POST", body: "body" });
    expect((await authorised(source(), base)(request)).status).toBe(200);
    expect(seen).toEqual(["Bearer t1 body", "Bearer t2 body"]);
  });

  it("gives up after the second refusal", async () => {
    const base = vi.fn(() => Promise.resolve(new Response("{}", { status: 401 })));
    expect((await authorised(source(), base)("http://a.example/x")).status).toBe(401);
    expect(base).toHaveBeenCalledTimes(2);
  });
});

describe("take", () => {
  it("gives the content, or throws what the controller said", async () => {
    const response = new Response("", { status: 200 });
    expect(await take(Promise.resolve({ data: 7, response }))).toBe(7);
    const refused = new Response("", { status: 409, headers: { "x-request-id": "r" } });
    const error = await take(
      Promise.resolve({ error: { code: "name_taken", detail: "taken" }, response: refused }),
    ).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ code: "name_taken", message: "taken", requestId: "r", status: 409 });
  });

  it("is tried again only where that may help", () => {
    const refused = new ApiError(404, "x", "x", null, [], null);
    expect(isWorthARetry(0, refused)).toBe(false);
    expect(isWorthARetry(0, new Error("away"))).toBe(true);
    expect(isWorthARetry(2, new Error("away"))).toBe(false);
  });
});
