import type { ReactNode } from "react";

/** The frame of what one sees before one is signed in. */
export function Door({ title, children }: { title: string; children: ReactNode }) {
  return (
    <main className="door">
      <title>{`${title} · Automator67`}</title>
      <div className="door-box">
        <div className="brand" style={{ justifyContent: "center", marginBottom: 18 }}>
          <img src="/favicon.svg" alt="" />
          Automator67
        </div>
        <section className="panel">
          <div className="panel-body">
            <h1 style={{ margin: "0 0 18px", fontSize: "1.0625rem", fontWeight: 620 }}>{title}</h1>
            {children}
          </div>
        </section>
      </div>
    </main>
  );
}
