import { CloseButton } from "@mantine/core";

import { useToasts } from "./toast";

export function Toasts() {
  const { items, drop } = useToasts();
  return (
    <div className="toasts" role="status" aria-live="polite">
      {items.map((toast) => (
        <div key={toast.id} className={`toast tone-${toast.tone}`}>
          <div className="grow">
            <div style={{ fontWeight: 560 }}>{toast.title}</div>
            {toast.detail && <div className="dim event-text">{toast.detail}</div>}
          </div>
          <CloseButton size="sm" aria-label="Close" onClick={() => drop(toast.id)} />
        </div>
      ))}
    </div>
  );
}
