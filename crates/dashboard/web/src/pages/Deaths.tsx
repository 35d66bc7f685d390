import { Button } from "@mantine/core";
import { IconHeartRateMonitor } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";

import * as read from "../api/queries";
import type { Death, DeathSummary, Instance } from "../api/types";
import { bytes, exact } from "../domain/format";
import { outcomeText } from "../domain/state";
import { Ago, Empty, Facts, Loaded } from "../ui/basics";

const Chart = lazy(() => import("../ui/Chart"));

/** How the attempts of an instance ended: what is kept after the container is gone. */
export function Deaths({ instance }: { instance: Instance }) {
  const query = useQuery(read.deaths(instance.id));
  const [opened, setOpened] = useState<number | null>(null);
  return (
    <Loaded query={query}>
      {({ items }) =>
        items.length === 0 ? (
          <Empty icon={IconHeartRateMonitor} title="No attempt has ended">
            When one does, its exit code, the end of its log, its last probes and its use of memory are kept
            here.
          </Empty>
        ) : (
          <ul className="rows">
            {items.map((summary) => (
              <Report
                key={summary.attempt}
                instance={instance}
                summary={summary}
                opened={(opened ?? items[0]?.attempt) === summary.attempt}
                open={() => setOpened(summary.attempt)}
              />
            ))}
          </ul>
        )
      }
    </Loaded>
  );
}

function Report(props: { instance: Instance; summary: DeathSummary; opened: boolean; open: () => void }) {
  const { summary, opened } = props;
  return (
    <li style={{ display: "block" }}>
      <div style={{ display: "flex", alignItems: "center", gap: 10 }}>
        <span className={`dot tone-${summary.outcome.kind === "stopped" ? "idle" : "bad"}`} aria-hidden />
        <span style={{ fontWeight: 550 }}>Attempt {summary.attempt}</span>
        <span>{outcomeText(summary.outcome)}</span>
        <span className="when">
          <Ago time={summary.ended_at} />
        </span>
        {!opened && (
          <Button size="compact-xs" variant="default" onClick={props.open}>
            Show
          </Button>
        )}
      </div>
      {opened && <Whole instance={props.instance} attempt={summary.attempt} />}
    </li>
  );
}

function Whole({ instance, attempt }: { instance: Instance; attempt: number }) {
  const query = useQuery(read.death(instance.id, attempt));
  return <Loaded query={query}>{(death) => <Details death={death} />}</Loaded>;
}

function yesOrNo(value: boolean | null | undefined): string | null {
  if (value === null || value === undefined) return null;
  return value ? "yes" : "no";
}

function Details({ death }: { death: Death }) {
  return (
    <div className="stack" style={{ paddingTop: 12 }}>
      <Facts
        items={[
          ["Exit code", death.outcome.exit_code],
          ["Signal", death.outcome.signal],
          ["Out of memory", yesOrNo(death.outcome.oom)],
          ["Memory limit", bytes(death.memory_limit_bytes)],
          ["Ended", exact(death.ended_at)],
        ]}
      />
      {death.memory.length > 1 && (
        <Suspense>
          <Chart
            title="Memory in its last minutes"
            times={death.memory.map((point) => Date.parse(point.at) / 1000)}
            series={[
              {
                label: "working set",
                tone: "bad",
                values: death.memory.map((point) => point.bytes),
              },
            ]}
            format={bytes}
            binary
            most={death.memory_limit_bytes ?? undefined}
          />
        </Suspense>
      )}
      {death.probes.length > 0 && (
        <div>
          <strong>Its last probes</strong>
          {death.probes.map((probe) => (
            <div key={probe.at + probe.probe} className="event-text">
              <span className={`dot tone-${probe.verdict === "passed" ? "good" : "bad"}`} aria-hidden />{" "}
              {probe.verdict}, {probe.took_millis} ms. {probe.message}
            </div>
          ))}
        </div>
      )}
      <div>
        <strong>The end of its log{death.log_cut ? ", not complete" : ""}</strong>
        {death.log.length === 0 ? (
          <div className="dim">It wrote nothing.</div>
        ) : (
          <div
            className="log"
            style={{
              height: "auto",
              maxHeight: 320,
              border: "1px solid var(--line)",
              borderRadius: 8,
              marginTop: 6,
            }}
            tabIndex={0}
            role="region"
            aria-label="The end of its log"
          >
            {death.log.map((line, at) => (
              <div key={at} className={`log-line wrap ${line.stream}`}>
                {line.text}
              </div>
            ))}
          </div>
        )}
      </div>
    </div>
  );
}
