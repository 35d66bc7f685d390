import { create } from "zustand";

interface PaletteState {
  opened: boolean;
  set: (opened: boolean) => void;
}

export const usePalette = create<PaletteState>((set) => ({
  opened: false,
  set: (opened) => set({ opened }),
}));

export interface Entry {
  label: string;
  kind: string;
  href: string;
}

/** The entries that have all words of `query`, those that begin with it first. */
export function matching(entries: readonly Entry[], query: string, most: number): Entry[] {
  const wanted = query.trim().toLowerCase();
  const words = wanted.split(/\s+/).filter(Boolean);
  const found = entries.filter((entry) => {
    const text = `${entry.label} ${entry.kind}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const rank = (entry: Entry) => (entry.label.toLowerCase().startsWith(wanted) ? 0 : 1);
  return found.sort((one, other) => rank(one) - rank(other)).slice(0, most);
}
