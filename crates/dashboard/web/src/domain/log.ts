/** Lines of a log: kept up to a number, searched, and written to a file. */

export interface Line {
  /** Counts up; a line keeps its number when older ones go. */
  number: number;
  at: string | null;
  stream: string;
  text: string;
}

/** Most lines that are kept in the page. */
export const LINES_MAX = 20_000;

export interface Log {
  lines: Line[];
  next: number;
  /** How many older lines were let go. */
  dropped: number;
}

export const EMPTY_LOG: Log = { lines: [], next: 1, dropped: 0 };

interface Said {
  at?: string | null;
  stream?: string;
  text?: string;
}

export function append(log: Log, said: readonly Said[], most = LINES_MAX): Log {
  const added = said.map((one, index) => ({
    number: log.next + index,
    at: one.at ?? null,
    stream: one.stream ?? "stdout",
    text: plain(one.text ?? ""),
  }));
  const all = [...log.lines, ...added];
  const over = Math.max(0, all.length - most);
  return {
    lines: over > 0 ? all.slice(over) : all,
    next: log.next + added.length,
    dropped: log.dropped + over,
  };
}

/** Without the sequences that colour text in a terminal. */
export function plain(text: string): string {
  return text.replace(/\u001b\[[0-9;?]*[ -/]*[@-~]/g, "").replace(/\r$/, "");
}

export function found(lines: readonly Line[], search: string): readonly Line[] {
  if (search === "") return lines;
  const wanted = search.toLowerCase();
  return lines.filter((line) => line.text.toLowerCase().includes(wanted));
}

/** Where in a text the search is, as pieces: every other one is a hit. */
export function pieces(text: string, search: string): string[] {
  if (search === "") return [text];
  const [lower, wanted] = [text.toLowerCase(), search.toLowerCase()];
  // Letters whose lower case is longer would shift what is marked.
  if (lower.length !== text.length) return [text];
  const parts: string[] = [];
  let from = 0;
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
    parts.push(text.slice(from, at), text.slice(at, at + wanted.length));
    from = at + wanted.length;
  }
  return [...parts, text.slice(from)];
}

export function asText(lines: readonly Line[]): string {
  return lines.map((line) => `${line.at ? `${line.at} ` : ""}${line.text}\n`).join("");
}
