/** Numbers and times for people. Unknown is a dash, never 0. */

export const UNKNOWN = "–";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return UNKNOWN;
  let scaled = value;
  let unit = 0;
  while (Math.abs(scaled) >= 1024 && unit < UNITS.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || scaled >= 100 ? 0 : scaled >= 10 ? 1 : 2;
  return `${trimmed(scaled.toFixed(digits))} ${UNITS[unit]}`;
}

export function cores(millis: number | null | undefined): string {
  if (millis === null || millis === undefined) return UNKNOWN;
  const value = trimmed((millis / 1000).toFixed(2));
  return `${value} ${value === "1" ? "core" : "cores"}`;
}

export function percent(value: number | null | undefined): string {
  if (value === null || value === undefined) return UNKNOWN;
  return `${trimmed(value.toFixed(value < 10 ? 1 : 0))} %`;
}

function trimmed(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

const STEPS: [number, string][] = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1_000, "s"],
];

/** A length of time, by its largest unit; two where that says little. */
export function duration(millis: number): string {
  const length = Math.max(0, millis);
  if (length < 1_000) return "0 s";
  const at = STEPS.findIndex(([step]) => length >= step);
  const [step, unit] = STEPS[at] ?? [1_000, "s"];
  const count = Math.floor(length / step);
  const next = STEPS[at + 1];
  const rest = next ? Math.floor((length - count * step) / next[0]) : 0;
  return next && count < 3 && rest > 0 ? `${count} ${unit} ${rest} ${next[1]}` : `${count} ${unit}`;
}

/** How long ago something was, or how soon it will be. */
export function ago(time: string | number, now: number): string {
  const at = typeof time === "number" ? time : Date.parse(time);
  const passed = now - at;
  if (Math.abs(passed) < 2_000) return "just now";
  return passed > 0 ? `${duration(passed)} ago` : `in ${duration(-passed)}`;
}

export function exact(time: string | number): string {
  const date = new Date(time);
  return `${date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" })} (${date.toISOString()})`;
}

/** `deployment_create` as `deployment create`. */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}

export function shortId(id: string): string {
  return id.slice(-8);
}

/** Reads `512MiB`, `1.5 GiB` or a bare number of bytes; null for what is none. */
export function parseBytes(text: string): number | null {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([kmgt]i?b?|b)?\s*$/i.exec(text);
  if (!match) return null;
  const unit = (match[2] ?? "b").toLowerCase()[0] ?? "b";
  return Math.round(Number(match[1]) * 1024 ** "bkmgt".indexOf(unit));
}
