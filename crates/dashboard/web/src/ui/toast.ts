import { create } from "zustand";

import { ApiError } from "../api/problem";
import type { Tone } from "../domain/state";

export interface Toast {
  id: number;
  tone: Tone;
  title: string;
  detail?: string;
}

const SHOWN_MS = 6_000;

interface Toasts {
  items: Toast[];
  add: (toast: Omit<Toast, "id">) => void;
  drop: (id: number) => void;
}

let next = 1;

export const useToasts = create<Toasts>((set, get) => ({
  items: [],
  add: (toast) => {
    const id = next++;
    set({ items: [...get().items.slice(-3), { ...toast, id }] });
    // What went wrong stays until somebody has read it.
    if (toast.tone !== "bad") setTimeout(() => get().drop(id), SHOWN_MS);
  },
  drop: (id) => set({ items: get().items.filter((item) => item.id !== id) }),
}));

export function say(title: string, detail?: string, tone: Tone = "good"): void {
  useToasts.getState().add({ title, detail, tone });
}

/** Says that something failed, with the request's id. */
export function sayFailed(what: string, error: unknown): void {
  const detail = error instanceof Error ? error.message : String(error);
  const id = error instanceof ApiError && error.requestId ? ` (request ${error.requestId})` : "";
  say(what, `${detail}${id}`, "bad");
}
