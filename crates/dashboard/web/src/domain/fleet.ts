/** The fleet in sums: what is there, what is promised to instances, what is not as it should be. */

import type { Deployment, Instance, Node } from "../api/types";
import { deploymentShown, instanceShown, nodeShown } from "./state";

export interface Sums {
  nodes: number;
  nodesReady: number;
  instances: number;
  instancesWell: number;
  cpuMillis: number;
  cpuReservedMillis: number;
  memoryBytes: number;
  memoryReservedBytes: number;
}

/** Sums over nodes that answer; the others' room cannot be had. */
export function sums(nodes: readonly Node[], deployments: readonly Deployment[]): Sums {
  const well = nodes.filter((node) => !["stale", "idle"].includes(nodeShown(node).tone));
  const total: Sums = {
    nodes: nodes.length,
    nodesReady: nodes.filter((node) => node.state === "ready").length,
    instances: 0,
    instancesWell: 0,
    cpuMillis: well.reduce((sum, node) => sum + node.facts.cpu_millis, 0),
    cpuReservedMillis: 0,
    memoryBytes: well.reduce((sum, node) => sum + node.facts.memory_bytes, 0),
    memoryReservedBytes: 0,
  };
  for (const deployment of deployments) {
    const present = deployment.instances.filter(isPresent);
    total.instances += present.length;
    total.instancesWell += present.filter((one) => ["good", "idle"].includes(instanceShown(one).tone)).length;
    total.cpuReservedMillis += present.length * deployment.spec.reservation.cpu_millis;
    total.memoryReservedBytes += present.length * deployment.spec.reservation.memory_bytes;
  }
  return total;
}

/** Those that still take room, or should. */
export function isPresent(instance: Pick<Instance, "state">): boolean {
  return instance.state !== "removed";
}

/** Instances by the name of their node. */
export function byNode(deployments: readonly Deployment[]): Map<string, Instance[]> {
  const found = new Map<string, Instance[]>();
  for (const deployment of deployments) {
    for (const instance of deployment.instances.filter(isPresent)) {
      const there = found.get(instance.node);
      if (there) there.push(instance);
      else found.set(instance.node, [instance]);
    }
  }
  return found;
}

/** Deployments that are not as declared, the worst first. */
export function astray(deployments: readonly Deployment[]): Deployment[] {
  const rank = { bad: 0, warn: 1, busy: 2 } as Record<string, number>;
  const of = (deployment: Deployment) => rank[deploymentShown(deployment).tone] ?? 9;
  return deployments.filter((one) => of(one) < 9).sort((one, other) => of(one) - of(other));
}
