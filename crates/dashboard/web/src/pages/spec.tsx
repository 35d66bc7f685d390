/** A spec, for people and as YAML. */

import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";

import type { Spec } from "../api/types";
import { joinCommand } from "../domain/draft";
import { bytes, cores } from "../domain/format";
import { Chips, Code, Waiting } from "../ui/basics";

export function specFacts(spec: Spec): [string, ReactNode][] {
  const ports = spec.ports.map(
    (port) => `${port.host_port ?? "any"} → ${port.container_port}${port.transport === "udp" ? "/udp" : ""}`,
  );
  return [
    ["Image", <span className="mono">{spec.image}</span>],
    ["Copies", spec.replicas],
    ...(spec.command.length > 0
      ? [["Command", <span className="mono">{joinCommand(spec.command)}</span>] as [string, ReactNode]]
      : []),
    ["CPU", `${cores(spec.limits.cpu_millis)} at most, ${cores(spec.reservation.cpu_millis)} reserved`],
    [
      "Memory",
      `${bytes(spec.limits.memory_bytes)} at most, ${bytes(spec.reservation.memory_bytes)} reserved`,
    ],
    ["Storage", spec.limits.storage_bytes ? `${bytes(spec.limits.storage_bytes)} at most` : "no limit"],
    ["Ports", <Chips of={ports} />],
    ["Environment", <Chips of={spec.env} />],
    ["Volumes", <Chips of={spec.volumes.map(volumeText)} />],
    [
      "Probes",
      spec.probes.length === 0 ? (
        <span className="dim">none</span>
      ) : (
        <Chips of={spec.probes.map(probeText)} />
      ),
    ],
    ["Restart", spec.restart.when.replace("_", " ")],
  ];
}

function volumeText(volume: Spec["volumes"][number]): string {
  switch (volume.kind) {
    case "named":
      return `${volume.name} → ${volume.target}`;
    case "bind":
      return `${volume.path} → ${volume.target}`;
    case "tmpfs":
      return `memory → ${volume.target}`;
  }
}

function probeText(probe: Spec["probes"][number]): string {
  switch (probe.type) {
    case "http":
      return `${probe.role}: http :${probe.port}${probe.path ?? "/"}`;
    case "tcp":
      return `${probe.role}: tcp :${probe.port}`;
    case "exec":
      return `${probe.role}: ${joinCommand(probe.command)}`;
    default:
      return `${probe.role}: ${probe.type}`;
  }
}

/** Leaves out what is null or empty, for it is so by default. */
function lean(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(lean);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value)
    .map(([name, inner]) => [name, lean(inner)] as const)
    .filter(([, inner]) => {
      if (inner === null || inner === undefined) return false;
      return typeof inner !== "object" || Object.keys(inner).length > 0;
    });
  return Object.fromEntries(kept);
}

export function YamlOf({ value }: { value: unknown }) {
  const text = useQuery({
    queryKey: ["yaml", value],
    staleTime: Infinity,
    gcTime: 0,
    queryFn: async () => (await import("yaml")).stringify(lean(value)),
  });
  return text.data === undefined ? <Waiting /> : <Code text={text.data} what="the YAML" />;
}
