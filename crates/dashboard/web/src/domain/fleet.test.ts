import { expect, it } from "vitest";

import type { Deployment, Instance, Node } from "../api/types";
import { astray, byNode, sums } from "./fleet";

const instance = (node: string, state = "running", presence = "fresh") =>
  ({ id: node + state, node, state, presence, health: "healthy" }) as Instance;
const deployment = (name: string, state: string, instances: Instance[]) =>
  ({
    name,
    state,
    instances,
    healthy: 0,
    spec: { replicas: 1, reservation: { cpu_millis: 50, memory_bytes: 16 } },
  }) as unknown as Deployment;
const node = (state: string) =>
  ({
    state,
    health: "healthy",
    health_reasons: [],
    facts: { cpu_millis: 2000, memory_bytes: 1024 },
  }) as unknown as Node;

it("counts no room on nodes that are not heard of, and no room for what is removed", () => {
  const all = [
    deployment("web", "running", [instance("h1"), instance("h1", "removed"), instance("h2", "failed")]),
  ];
  const sum = sums([node("ready"), node("unreachable"), node("suspect")], all);
  expect([sum.nodes, sum.nodesReady, sum.cpuMillis, sum.memoryBytes]).toEqual([3, 1, 4000, 2048]);
  expect([sum.instances, sum.instancesWell, sum.cpuReservedMillis]).toEqual([2, 1, 100]);
});

it("puts instances to their nodes, and leaves out what is removed", () => {
  const found = byNode([
    deployment("web", "running", [instance("h1"), instance("h2"), instance("h2", "removed")]),
  ]);
  expect([found.get("h1")?.length, found.get("h2")?.length, found.get("h3")]).toEqual([1, 1, undefined]);
});

it("names deployments that are not as declared, the worst first", () => {
  const all = ["running", "progressing", "degraded", "completed"].map((state) =>
    deployment(state, state, []),
  );
  expect(astray(all).map((one) => one.name)).toEqual(["degraded", "progressing"]);
});
