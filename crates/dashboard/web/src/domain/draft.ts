/**
 * A deployment being written: one value for the form and for the editor, which is exactly
 * what will be sent.
 */

import type { DeploymentCreate } from "../api/types";

export type Draft = DeploymentCreate;

export const EMPTY: Draft = { name: "", image: "", replicas: 1 };

/** The draft without what is empty, for the controller fills in what is left out. */
export function cleaned(draft: Draft): Draft {
  const entries = Object.entries(draft).filter(([, value]) => !isEmpty(value));
  return { ...Object.fromEntries(entries), name: draft.name, image: draft.image };
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === "") return true;
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === "object" && Object.values(value).every((inner) => inner === undefined);
}

/** Splits a command as a shell would, without expanding anything; null where a quote is open. */
export function splitCommand(text: string): string[] | null {
  const words: string[] = [];
  let word: string | null = null;
  let quote: string | null = null;
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at] as string;
    if (quote) {
      if (char === quote) quote = null;
      else if (char === "\\" && quote === '"' && at + 1 < text.length) word = (word ?? "") + text[(at += 1)];
      else word = (word ?? "") + char;
    } else if (char === "'" || char === '"') {
      quote = char;
      word ??= "";
    } else if (char === "\\" && at + 1 < text.length) {
      word = (word ?? "") + text[(at += 1)];
    } else if (/\s/.test(char)) {
      if (word !== null) words.push(word);
      word = null;
    } else {
      word = (word ?? "") + char;
    }
  }
  if (quote) return null;
  if (word !== null) words.push(word);
  return words;
}

/** The other way round. */
export function joinCommand(words: readonly string[]): string {
  return words
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`))
    .join(" ");
}

/** Reads what the editor holds; throws an `Error` that says what is wrong. */
export function fromParsed(value: unknown): Draft {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error("A deployment is a mapping with a name and an image.");
  }
  const draft = value as Record<string, unknown>;
  for (const field of ["name", "image"]) {
    if (draft[field] !== undefined && typeof draft[field] !== "string") {
      throw new Error(`${field} has to be a text.`);
    }
  }
  return { ...draft, name: draft.name ?? "", image: draft.image ?? "" } as Draft;
}
