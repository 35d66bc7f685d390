import { Button, Group, Tabs } from "@mantine/core";
import { IconChartLine, IconPlayerPlay, IconPlayerStop, IconRefresh } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { lazy, type ReactNode, Suspense, useState } from "react";

import * as read from "../api/queries";
import type { Instance } from "../api/types";
import { shortId, UNKNOWN } from "../domain/format";
import { instanceShown, outcomeText } from "../domain/state";
import { useAccess } from "../shell/access";
import { Ago, Chips, Curl, Empty, Facts, Loaded, Page, Panel, State, Waiting } from "../ui/basics";
import { InstanceCharts, SpanChoice } from "../ui/charts";
import { askFor, EventList, pullText, start } from "../ui/lists";
import { Deaths } from "./Deaths";

const LogView = lazy(() => import("./LogView"));
const route = getRouteApi("/app/instances/$instance");

export function InstanceDetail() {
  const { instance: id } = route.useParams();
  const query = useQuery(read.instance(id));
  const one = query.data;
  const name = one ? `${one.deployment} ${shortId(one.id)}` : shortId(id);
  return (
    <Page
      name={name}
      title={
        one ? (
          <>
            {one.deployment} <span className="mono dim">{shortId(one.id)}</span>
          </>
        ) : (
          name
        )
      }
      crumbs={
        one && (
          <>
            <Link to="/deployments">Deployments</Link>
            {" / "}
            <Link to="/deployments/$deployment" params={{ deployment: one.deployment_id }}>
              {one.deployment}
            </Link>
          </>
        )
      }
      sub={one && <Standing instance={one} />}
      actions={one && <Actions instance={one} />}
    >
      <Loaded query={query}>{(instance) => <Body instance={instance} />}</Loaded>
    </Page>
  );
}

function Standing({ instance }: { instance: Instance }) {
  const shown = instanceShown(instance);
  return (
    <span style={{ display: "inline-flex", gap: 10, alignItems: "center", flexWrap: "wrap" }}>
      <State shown={{ ...shown, why: "" }} />
      <span>
        on{" "}
        <Link to="/nodes/$node" params={{ node: instance.node }}>
          {instance.node}
        </Link>
        {shown.why ? `. ${sentence(shown.why)}` : ""}
        {shown.tone === "stale" && instance.observed_at && (
          <>
            {" "}
            As of <Ago time={instance.observed_at} />.
          </>
        )}
        {instance.backoff_until && (
          <>
            {" "}
            Next attempt <Ago time={instance.backoff_until} />.
          </>
        )}{" "}
        {pullText(instance)}
      </span>
    </span>
  );
}

const sentence = (text: string) =>
  text.charAt(0).toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".");

function Actions({ instance }: { instance: Instance }) {
  const access = useAccess();
  return (
    <>
      <Curl path={`/api/v1/instances/${instance.id}`} />
      {access.operates(instance.project) && instance.desired !== "removed" && (
        <Group gap={8}>
          <Button
            variant="default"
            leftSection={<IconRefresh size={15} />}
            onClick={() => askFor(instance, "restart")}
          >
            Restart
          </Button>
          {instance.desired === "stopped" ? (
            <Button leftSection={<IconPlayerPlay size={15} />} onClick={() => start(instance)}>
              Start
            </Button>
          ) : (
            <Button
              variant="default"
              leftSection={<IconPlayerStop size={15} />}
              onClick={() => askFor(instance, "stop")}
            >
              Stop
            </Button>
          )}
        </Group>
      )}
    </>
  );
}

function Body({ instance }: { instance: Instance }) {
  const { tab } = route.useSearch();
  const navigate = useNavigate();
  return (
    <div className="split">
      <section className="panel">
        <Tabs
          value={tab ?? "logs"}
          onChange={(next) =>
            void navigate({
              to: "/instances/$instance",
              params: { instance: instance.id },
              search: { tab: next ?? undefined },
              replace: true,
            })
          }
          keepMounted={false}
        >
          <Tabs.List px={8}>
            <Tabs.Tab value="logs">Logs</Tabs.Tab>
            <Tabs.Tab value="metrics">Metrics</Tabs.Tab>
            <Tabs.Tab value="crashes">Crash reports</Tabs.Tab>
            <Tabs.Tab value="events">Events</Tabs.Tab>
            <Tabs.Tab value="placement">Placement</Tabs.Tab>
          </Tabs.List>
          <Tabs.Panel value="logs">
            <Suspense fallback={<Waiting />}>
              <LogView instance={instance} />
            </Suspense>
          </Tabs.Panel>
          <Tabs.Panel value="metrics">
            <Metrics instance={instance} />
          </Tabs.Panel>
          <Tabs.Panel value="crashes">
            <Deaths instance={instance} />
          </Tabs.Panel>
          <Tabs.Panel value="events">
            <EventList filter={{ instance: instance.id }} />
          </Tabs.Panel>
          <Tabs.Panel value="placement">
            <Placement instance={instance} />
          </Tabs.Panel>
        </Tabs>
      </section>
      <div className="stack">
        <Panel title="Facts">
          <Facts items={facts(instance)} />
        </Panel>
        <Probes instance={instance} />
      </div>
    </div>
  );
}

function facts(instance: Instance): [string, ReactNode][] {
  const ports = instance.ports.map(
    (port) => `${instance.address ?? ""}:${port.host_port} → ${port.container_port}/${port.transport}`,
  );
  return [
    ["Wanted", instance.desired],
    ["Phase", instance.phase],
    ["Health", instance.health],
    [
      "Attempt",
      `${instance.attempt}${instance.failures > 0 ? `, ${instance.failures} failed in a row` : ""}`,
    ],
    ["Started", <Ago time={instance.started_at} />],
    ["Ended", instance.finished_at ? <Ago time={instance.finished_at} /> : null],
    ["Last end", instance.outcome ? outcomeText(instance.outcome) : null],
    ["Ports", <Chips of={ports} />],
    ["Revision", instance.revision],
    ["Image", <span className="mono">{instance.image_digest ?? instance.image_id ?? UNKNOWN}</span>],
    ["Container", <span className="mono">{instance.container_id?.slice(0, 12) ?? UNKNOWN}</span>],
    ["Last reported", <Ago time={instance.observed_at} />],
    ["Id", <span className="mono">{instance.id}</span>],
  ];
}

function Probes({ instance }: { instance: Instance }) {
  const deployment = useQuery(read.deployment(instance.deployment_id)).data;
  const probes = deployment?.spec.probes ?? [];
  return (
    <Panel title="Probes">
      {probes.length === 0 ? (
        <span className="dim" style={{ fontSize: "0.8125rem" }}>
          None is declared: it counts as healthy once it has run for{" "}
          {deployment?.spec.min_healthy_seconds ?? 1} s.
        </span>
      ) : (
        <Facts
          items={probes.map((probe, at) => [
            `${at + 1}. ${probe.type}`,
            `${probe.role}, each ${probe.interval_seconds} s, ${probe.retries} failures in a row`,
          ])}
        />
      )}
    </Panel>
  );
}

function Metrics({ instance }: { instance: Instance }) {
  const [span, setSpan] = useState("3600");
  const metrics = useQuery(read.instanceMetrics(instance.id, Number(span)));
  return (
    <>
      <Group justify="flex-end" p="xs">
        <SpanChoice value={span} set={setSpan} />
      </Group>
      <Loaded query={metrics}>
        {(data) =>
          data.samples.length === 0 ? (
            <Empty icon={IconChartLine} title="No readings in this time">
              They are taken while the container runs and its node is connected.
            </Empty>
          ) : (
            <InstanceCharts samples={data.samples} />
          )
        }
      </Loaded>
    </>
  );
}

function Placement({ instance }: { instance: Instance }) {
  const { reason, rejected } = instance.placement;
  return (
    <ul className="rows">
      <li>
        <span className="dot tone-good" aria-hidden />
        <span style={{ fontWeight: 550 }}>{instance.node}</span>
        <span className="dim event-text">{reason}</span>
      </li>
      {rejected.map((rejection) => (
        <li key={rejection.node}>
          <span className="dot tone-idle" aria-hidden />
          <span>{rejection.node}</span>
          <span className="dim event-text">{rejection.reason}</span>
        </li>
      ))}
    </ul>
  );
}
