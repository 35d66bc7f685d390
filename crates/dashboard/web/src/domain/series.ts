/** From readings, newest first, to what charts take. */

export interface Reading {
  at: string;
}

/** Times in seconds, rising, with a hole wherever readings are missing for long. */
export function timeline<T extends Reading>(
  samples: readonly T[],
): { times: number[]; samples: (T | null)[] } {
  const rising = [...samples].reverse();
  const times: number[] = [];
  const kept: (T | null)[] = [];
  const gap = gapSeconds(rising);
  for (const sample of rising) {
    const at = Date.parse(sample.at) / 1000;
    const last = times.at(-1);
    if (last !== undefined && at <= last) continue;
    if (last !== undefined && at - last > gap) {
      times.push(last + gap / 2);
      kept.push(null);
    }
    times.push(at);
    kept.push(sample);
  }
  return { times, samples: kept };
}

/** Five times what usually lies between two readings. */
function gapSeconds(rising: readonly Reading[]): number {
  const between = rising
    .slice(1)
    .map((sample, at) => (Date.parse(sample.at) - Date.parse(rising[at]?.at ?? sample.at)) / 1000)
    .sort((one, other) => one - other);
  return Math.max(5, (between[Math.floor(between.length / 2)] ?? 10) * 5);
}

/** What a counter grew by, per second; nothing over a hole or a restart of the counter. */
export function rate<T>(
  times: readonly number[],
  samples: readonly (T | null)[],
  counter: (sample: T) => number | null | undefined,
): (number | null)[] {
  return samples.map((sample, at) => {
    const before = samples[at - 1];
    if (!sample || !before) return null;
    const [now, then] = [counter(sample), counter(before)];
    const seconds = (times[at] ?? 0) - (times[at - 1] ?? 0);
    if (now === null || now === undefined || then === null || then === undefined) return null;
    return now < then || seconds <= 0 ? null : (now - then) / seconds;
  });
}
