/** The charts of nodes and instances, and the choice of how far back they go. */

import { SegmentedControl } from "@mantine/core";
import { lazy, Suspense } from "react";

import type { NodeSample, Sample } from "../api/types";
import { bytes, percent } from "../domain/format";
import { rate, timeline } from "../domain/series";

const Chart = lazy(() => import("./Chart"));

export const SPANS = [
  { value: "300", label: "5 min" },
  { value: "3600", label: "1 h" },
  { value: "21600", label: "6 h" },
];

export function SpanChoice({ value, set }: { value: string; set: (value: string) => void }) {
  return <SegmentedControl size="xs" data={SPANS} value={value} onChange={set} aria-label="How far back" />;
}

const perSecond = (value: number) => `${bytes(value)}/s`;

export function NodeCharts({ samples, cores }: { samples: NodeSample[]; cores: number }) {
  const line = timeline(samples);
  const of = (value: (sample: NodeSample) => number | null | undefined) =>
    line.samples.map((sample) => (sample ? (value(sample) ?? null) : null));
  const used = of((one) =>
    typeof one.memory_bytes !== "number" || typeof one.memory_available_bytes !== "number"
      ? null
      : one.memory_bytes - one.memory_available_bytes,
  );
  const memory = samples[0]?.memory_bytes ?? undefined;
  const received = rate(line.times, line.samples, (one) => one.network_rx_bytes);
  const sent = rate(line.times, line.samples, (one) => one.network_tx_bytes);
  return (
    <Suspense fallback={<div style={{ height: 340 }} />}>
      <div className="chart-grid">
        <Chart
          title="CPU"
          times={line.times}
          series={[{ label: "used", tone: "busy", values: of((one) => one.cpu_percent) }]}
          format={percent}
          most={100 * cores}
        />
        <Chart
          title="Memory"
          times={line.times}
          series={[{ label: "used", tone: "good", values: used }]}
          format={bytes}
          binary
          most={memory}
        />
        <Chart
          title="Load"
          times={line.times}
          series={[{ label: "1 min", tone: "warn", values: of((one) => one.load?.[0]) }]}
          format={(value) => value.toFixed(1)}
          most={1}
        />
        <Chart
          title="Network"
          times={line.times}
          series={[
            { label: "in", tone: "busy", values: received },
            { label: "out", tone: "good", values: sent },
          ]}
          format={perSecond}
          binary
        />
      </div>
    </Suspense>
  );
}

export function InstanceCharts({ samples }: { samples: Sample[] }) {
  const line = timeline(samples);
  const of = (value: (sample: Sample) => number | null | undefined) =>
    line.samples.map((sample) => (sample ? (value(sample) ?? null) : null));
  const counted = (value: (sample: Sample) => number | null | undefined) =>
    rate(line.times, line.samples, value);
  return (
    <Suspense fallback={<div style={{ height: 340 }} />}>
      <div className="chart-grid">
        <Chart
          title="CPU"
          times={line.times}
          series={[{ label: "used", tone: "busy", values: of((one) => one.cpu_percent) }]}
          format={percent}
          most={5}
        />
        <Chart
          title="Memory"
          times={line.times}
          series={[{ label: "working set", tone: "good", values: of((one) => one.memory_bytes) }]}
          format={bytes}
          binary
          most={samples[0]?.memory_limit_bytes ?? undefined}
        />
        <Chart
          title="Network"
          times={line.times}
          series={[
            { label: "in", tone: "busy", values: counted((one) => one.network_rx_bytes) },
            { label: "out", tone: "good", values: counted((one) => one.network_tx_bytes) },
          ]}
          format={perSecond}
          binary
        />
        <Chart
          title="Disk"
          times={line.times}
          series={[
            { label: "read", tone: "busy", values: counted((one) => one.block_read_bytes) },
            { label: "written", tone: "warn", values: counted((one) => one.block_write_bytes) },
          ]}
          format={perSecond}
          binary
        />
      </div>
    </Suspense>
  );
}
