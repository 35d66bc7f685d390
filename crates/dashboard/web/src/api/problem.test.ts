import { beforeEach, describe, expect, it } from "vitest";

import { problem, reached, Unreachable, useConnection } from "./problem";

describe("problem", () => {
  it("keeps the code, the request's id and the fields", async () => {
    const body = {
      code: "invalid",
      detail: "no",
      request_id: "r1",
      errors: [{ field: "name", message: "x" }],
    };
    const error = await problem(new Response(JSON.stringify(body), { status: 422 }));
    expect([error.status, error.code, error.message, error.requestId]).toEqual([422, "invalid", "no", "r1"]);
    expect(error.fields).toEqual(body.errors);
  });

  it("makes something of a proxy's page", async () => {
    const headers = { "x-request-id": "r2", "retry-after": "7" };
    const error = await problem(new Response("<h1>Bad gateway</h1>", { status: 502, headers }));
    expect([error.code, error.requestId, error.retryAfterSeconds]).toEqual(["http_502", "r2", 7]);
  });
});

describe("reached", () => {
  beforeEach(() => useConnection.setState({ answeredAt: null, downSince: null }));

  it("notes since when the controller is away, and when it is back", async () => {
    await expect(reached(() => Promise.reject(new TypeError("failed")))).rejects.toBeInstanceOf(Unreachable);
    const { downSince } = useConnection.getState();
    expect(downSince).not.toBeNull();
    await reached(() => Promise.resolve(new Response("", { status: 503 })));
    expect(useConnection.getState().downSince).toBe(downSince);
    await reached(() => Promise.resolve(new Response("{}", { status: 404 })));
    expect(useConnection.getState().downSince).toBeNull();
    expect(useConnection.getState().answeredAt).not.toBeNull();
  });

  it("does not take a request that was given up for an outage", async () => {
    const aborted = new DOMException("aborted", "AbortError");
    await expect(reached(() => Promise.reject(aborted))).rejects.toBe(aborted);
    expect(useConnection.getState().downSince).toBeNull();
  });
});
