/** A chart over time. Loads uPlot on demand; where nothing was measured, there is a gap. */

import "uplot/dist/uPlot.min.css";

import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import uPlot from "uplot";

export interface Series {
  label: string;
  /** A tone's name. */
  tone: "good" | "busy" | "warn" | "bad";
  values: (number | null)[];
}

interface Props {
  title: string;
  /** Seconds since 1970, rising. */
  times: number[];
  series: Series[];
  format: (value: number) => string;
  /** Steps of 1024, for bytes. */
  binary?: boolean;
  /** Where the axis ends at least. */
  most?: number;
}

/** 1, 2, 5 and so on of each unit. */
const BINARY_STEPS = [0, 1, 2, 3, 4].flatMap((power) =>
  [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].map((step) => step * 1024 ** power),
);

/** Hours and minutes; seconds where the ticks are closer than a minute. */
function clock(_: uPlot, ticks: number[]): string[] {
  const isClose = (ticks[1] ?? 0) - (ticks[0] ?? 0) < 60;
  return ticks.map((tick) =>
    new Date(tick * 1000).toLocaleTimeString(undefined, {
      hour12: false,
      hour: "2-digit",
      minute: "2-digit",
      ...(isClose && { second: "2-digit" }),
    }),
  );
}

export default function Chart({ title, times, series, format, binary = false, most }: Props) {
  const area = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const scheme = useComputedColorScheme("light");
  const names = series.map((one) => one.label).join();

  useEffect(() => {
    const element = area.current;
    if (!element) return;
    const style = getComputedStyle(element);
    const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: colour("dim"), font: "11px sans-serif", ticks: { show: false } };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: element.clientHeight,
        padding: [8, 4, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 6 } },
        scales: { y: { range: (_, __, max) => [0, Math.max(max * 1.1, most ?? 0) || 1] } },
        series: [
          {},
          ...series.map((one) => ({
            label: one.label,
            stroke: colour(one.tone),
            width: 1.5,
            fill: `${colour(one.tone)}1c`,
            points: { show: false },
            spanGaps: false,
          })),
        ],
        axes: [
          { ...axis, grid: { show: false }, size: 26, space: 72, values: clock },
          {
            ...axis,
            size: 62,
            space: 34,
            ...(binary && { incrs: BINARY_STEPS }),
            grid: { stroke: colour("line"), width: 1 },
            values: (_, ticks) => ticks.map(format),
          },
        ],
      },
      [[], ...series.map(() => [])],
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() =>
      made.setSize({ width: element.clientWidth, height: element.clientHeight }),
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
    // The data is set below; another scheme or other series make another chart.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [scheme, names, most, binary]);

  useEffect(() => {
    plot.current?.setData([times, ...series.map((one) => one.values)]);
  });

  const latest = series
    .map((one) => {
      const value = one.values.at(-1);
      return value === null || value === undefined ? null : `${one.label} ${format(value)}`;
    })
    .filter((text) => text !== null)
    .join(" · ");
  return (
    <div className="chart-box">
      <h3>
        {title}
        <span>{latest}</span>
      </h3>
      <div
        className="chart-area"
        ref={area}
        role="img"
        aria-label={`${title}: ${latest || "nothing measured"}`}
      />
    </div>
  );
}
