import { describe, expect, it } from "vitest";

import { deploymentShown, instanceShown, nodeShown, operationShown, outcomeText } from "./state";

const INSTANCE = {
  state: "running",
  health: "healthy",
  presence: "fresh",
  outcome: null,
  storage_exceeded: false,
};
const NODE = { state: "ready", health: "healthy", health_reasons: [], cordoned: false };

describe("states", () => {
  it("never show an instance as good whose node is not heard of", () => {
    expect(instanceShown(INSTANCE).tone).toBe("good");
    for (const presence of ["stale", "lost"]) {
      expect(instanceShown({ ...INSTANCE, presence }).tone).toBe("stale");
    }
  });

  it("tell the cause of an instance that backs off", () => {
    const outcome = { kind: "exited", exit_code: 137, oom: true, signal: "SIGKILL" };
    const shown = instanceShown({ ...INSTANCE, state: "backing_off", outcome });
    expect(shown).toEqual({
      tone: "bad",
      label: "backing off",
      why: "killed for memory (out of memory)",
    });
  });

  it("tell an engine that does not answer from a node that does not", () => {
    expect(nodeShown({ ...NODE, state: "engine_unreachable" }).tone).toBe("bad");
    expect(nodeShown({ ...NODE, state: "unreachable" }).tone).toBe("stale");
    expect(nodeShown({ ...NODE, health: "degraded", health_reasons: ["disk"] })).toEqual({
      tone: "warn",
      label: "degraded",
      why: "disk",
    });
  });

  it("say of a deployment that waits for a node that it waits", () => {
    const spec = { replicas: 3 } as never;
    const pending = { lacking: 2, rejected: [] };
    const shown = deploymentShown({ state: "progressing", pending, healthy: 1, spec, instances: [] });
    expect(shown.label).toBe("pending");
  });

  it("call only a success good", () => {
    const done = { state: "done", done: 1, total: 1 };
    const tones = ["succeeded", "failed", "failed_kept_old", "rolled_back", "cancelled"].map(
      (verdict) => operationShown({ ...done, verdict }).tone,
    );
    expect(tones).toEqual(["good", "bad", "warn", "warn", "idle"]);
  });

  it("tell how a run ended", () => {
    expect(outcomeText({ kind: "exited", exit_code: 3 })).toBe("exited with code 3");
    expect(outcomeText({ kind: "exited", exit_code: 143, signal: "SIGTERM" })).toBe("ended by SIGTERM");
    expect(outcomeText({ kind: "failed", message: "no such image" })).toBe("no such image");
  });
});
