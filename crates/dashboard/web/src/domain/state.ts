/** States, in words and in tones: the one place that says which is good and which is not. */

import type { Deployment, FleetEvent, Instance, Node, Operation, Outcome } from "../api/types";

export type Tone = "good" | "busy" | "warn" | "bad" | "idle" | "stale";

export interface Shown {
  tone: Tone;
  label: string;
  /** Why, in a few words, where there is something to say. */
  why?: string;
}

/** How a node stands: what its agent last said, and whether it still says anything. */
export function nodeShown(node: Pick<Node, "state" | "health" | "health_reasons" | "cordoned">): Shown {
  switch (node.state) {
    case "ready":
      if (node.health === "failing")
        return { tone: "bad", label: "failing", why: node.health_reasons.join("; ") };
      if (node.health === "degraded")
        return { tone: "warn", label: "degraded", why: node.health_reasons.join("; ") };
      if (node.cordoned) return { tone: "warn", label: "cordoned", why: "It takes nothing new." };
      return { tone: "good", label: "ready" };
    case "suspect":
      return { tone: "warn", label: "suspect", why: "A heartbeat is overdue." };
    case "unreachable":
      return { tone: "stale", label: "unreachable", why: "Its agent is not heard of." };
    case "engine_unreachable":
      return {
        tone: "bad",
        label: "engine unreachable",
        why: "Its agent answers, its Docker Engine does not.",
      };
    case "enrolled":
      return { tone: "idle", label: "enrolled", why: "Its agent has not connected yet." };
    default:
      return { tone: "idle", label: node.state };
  }
}

/** How a run ended, in a line. */
export function outcomeText(outcome: Outcome): string {
  if (outcome.oom) return "killed for memory (out of memory)";
  if (outcome.kind === "exited") {
    if (outcome.signal) return `ended by ${outcome.signal}`;
    return `exited with code ${outcome.exit_code ?? "?"}`;
  }
  if (outcome.kind === "stopped") return "stopped as asked";
  return outcome.message ?? outcome.reason ?? "failed";
}

type InstanceLike = Pick<Instance, "state" | "health" | "presence" | "outcome" | "storage_exceeded">;

/** How an instance stands; `stale` where its node is not heard of, for nobody knows then. */
export function instanceShown(instance: InstanceLike): Shown {
  const why = instance.outcome ? outcomeText(instance.outcome) : undefined;
  const label = instance.state.replace("_", " ");
  if (instance.presence !== "fresh")
    return { tone: "stale", label, why: "As last seen; its node is not heard of." };
  switch (instance.state) {
    case "running":
      if (instance.health === "unhealthy")
        return { tone: "bad", label: "unhealthy", why: "Its probes fail." };
      if (instance.health === "starting") return { tone: "busy", label: "starting", why: "Not healthy yet." };
      if (instance.storage_exceeded)
        return {
          tone: "warn",
          label: "over its storage",
          why: "Its writable layer is over the limit.",
        };
      return { tone: "good", label };
    case "assigned":
    case "pulling":
    case "starting":
    case "stopping":
      return { tone: "busy", label };
    case "backing_off":
      return { tone: "bad", label: "backing off", why };
    case "failed":
      return { tone: "bad", label, why };
    case "completed":
    case "stopped":
    case "removed":
      return { tone: "idle", label, why };
    default:
      return { tone: "idle", label };
  }
}

export function deploymentShown(
  deployment: Pick<Deployment, "state" | "pending" | "healthy" | "spec" | "instances">,
): Shown {
  const lacking = deployment.pending?.lacking ?? 0;
  switch (deployment.state) {
    case "running":
      return { tone: "good", label: "running" };
    case "completed":
      return { tone: "idle", label: "completed" };
    case "progressing":
      return lacking > 0
        ? { tone: "warn", label: "pending", why: `No node takes ${lacking} of its copies.` }
        : {
            tone: "busy",
            label: "progressing",
            why: `${deployment.healthy} of ${deployment.spec.replicas} healthy`,
          };
    case "degraded": {
      const failed = deployment.instances.find((one) => one.outcome && instanceShown(one).tone === "bad");
      const why = failed?.outcome ? `A copy ${outcomeText(failed.outcome)}.` : "A copy is not as declared.";
      return { tone: "bad", label: "degraded", why };
    }
    case "deleting":
      return { tone: "busy", label: "deleting" };
    default:
      return { tone: "idle", label: deployment.state };
  }
}

export function operationShown(operation: Pick<Operation, "state" | "verdict" | "done" | "total">): Shown {
  if (operation.state === "running")
    return { tone: "busy", label: `${operation.done} of ${operation.total}` };
  switch (operation.verdict) {
    case "succeeded":
      return { tone: "good", label: "succeeded" };
    case "cancelled":
      return { tone: "idle", label: "cancelled" };
    case null:
    case undefined:
      return { tone: "idle", label: "ended" };
    case "failed_kept_old":
      return { tone: "warn", label: "failed, old one kept" };
    case "rolled_back":
      return { tone: "warn", label: "rolled back" };
    default:
      return { tone: "bad", label: operation.verdict };
  }
}

export function eventTone(event: Pick<FleetEvent, "severity" | "kind">): Tone {
  if (event.severity === "error") return "bad";
  if (event.severity === "warning") return "warn";
  return /healthy|succeeded|ready|running/.test(event.kind) ? "good" : "idle";
}
