import { useSyncExternalStore } from "react";

import { ago } from "../domain/format";

const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

/** One timer for all times on a page, and none where there is no page to see them. */
function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  timer ??= setInterval(() => {
    if (!document.hidden) for (const each of listeners) each();
  }, 1_000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

/** How long ago `time` was, kept up to date; renders again only when the words change. */
export function useAgo(time: string | number): string {
  return useSyncExternalStore(subscribe, () => ago(time, Date.now()));
}
