import { IconBox, IconChartLine } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useState } from "react";

import * as read from "../api/queries";
import type { Node, NodeSample } from "../api/types";
import { byNode } from "../domain/fleet";
import { bytes, cores, percent, UNKNOWN } from "../domain/format";
import { nodeShown } from "../domain/state";
import { useAccess } from "../shell/access";
import { Ago, Chips, Curl, Empty, Facts, Loaded, Meter, Page, Panel, State } from "../ui/basics";
import { NodeCharts, SpanChoice } from "../ui/charts";
import { EventList, InstanceTable } from "../ui/lists";

const route = getRouteApi("/app/nodes/$node");

export function NodeDetail() {
  const { node: name } = route.useParams();
  const query = useQuery(read.node(name));
  return (
    <Page
      name={name}
      title={name}
      crumbs={<Link to="/nodes">Nodes</Link>}
      sub={query.data && <Standing node={query.data} />}
      actions={<Curl path={`/api/v1/nodes/${name}`} />}
    >
      <Loaded query={query}>{(node) => <Body node={node} />}</Loaded>
    </Page>
  );
}

function Standing({ node }: { node: Node }) {
  const shown = nodeShown(node);
  return (
    <span style={{ display: "inline-flex", gap: 10, alignItems: "center", flexWrap: "wrap" }}>
      <State shown={shown} />
      <span>
        since <Ago time={node.state_since} />
        {shown.why ? `. ${shown.why}` : ""}
      </span>
    </span>
  );
}

function Body({ node }: { node: Node }) {
  const access = useAccess();
  const deployments = useQuery(read.deployments);
  const [span, setSpan] = useState("3600");
  const metrics = useQuery(read.nodeMetrics(node.name, Number(span)));
  return (
    <div className="split">
      <div className="stack">
        <Panel title="Readings" flush actions={<SpanChoice value={span} set={setSpan} />}>
          <Loaded query={metrics}>
            {(data) =>
              data.samples.length === 0 ? (
                <Empty icon={IconChartLine} title="No readings in this time">
                  The node's agent sends them as long as it is connected.
                </Empty>
              ) : (
                <NodeCharts samples={data.samples} cores={node.facts.cpu_millis / 1000} />
              )
            }
          </Loaded>
        </Panel>
        <Panel title="Instances" flush>
          <Loaded query={deployments}>
            {(all) => {
              const here = byNode(all).get(node.name) ?? [];
              return here.length === 0 ? (
                <Empty icon={IconBox} title="Nothing runs here">
                  Deployments whose constraints it meets are placed on it as they need room.
                </Empty>
              ) : (
                <InstanceTable
                  label={`Instances on ${node.name}`}
                  instances={here}
                  without="node"
                  operates={access.operatesSomewhere}
                />
              );
            }}
          </Loaded>
        </Panel>
        <Panel title="Events" flush>
          <EventList filter={{ node: node.name }} />
        </Panel>
      </div>
      <div className="stack">
        <Panel title="Facts">
          <Facts items={facts(node)} />
        </Panel>
        {metrics.data?.latest && <Disks sample={metrics.data.latest} />}
      </div>
    </div>
  );
}

function facts(node: Node): [string, React.ReactNode][] {
  const { facts } = node;
  const storage = { enforced: "enforced by the engine", measured: "measured by the agent" };
  return [
    ["Address", <span className="mono">{facts.address ?? UNKNOWN}</span>],
    ["Host name", facts.hostname],
    ["Labels", <Chips of={node.labels} />],
    ["System", `${facts.os}, ${facts.architecture}`],
    ["Kernel", facts.kernel],
    ["CPU", cores(facts.cpu_millis)],
    ["Memory", bytes(facts.memory_bytes)],
    ["Disk", `${bytes(facts.disk_free_bytes)} free of ${bytes(facts.disk_bytes)}`],
    [
      "Engine",
      facts.engine_version ? `${facts.engine_version} (API ${facts.engine_api_version ?? "?"})` : UNKNOWN,
    ],
    ["Storage driver", facts.storage_driver],
    ["Storage limits", storage[facts.storage_limit as keyof typeof storage] ?? UNKNOWN],
    ["Control groups", facts.cgroup_version ? `version ${facts.cgroup_version}` : UNKNOWN],
    ["Agent", facts.agent_version],
    ["Last heard of", <Ago time={node.last_seen_at} />],
    ["Enrolled", <Ago time={node.created_at} />],
    ["Id", <span className="mono">{node.id}</span>],
  ];
}

function Disks({ sample }: { sample: NodeSample }) {
  return (
    <Panel title="Disks">
      <div className="stack">
        {sample.disks.map((disk) => (
          <div key={disk.path} style={{ fontSize: "0.8125rem" }}>
            <div style={{ display: "flex", gap: 8 }}>
              <span className="mono cut grow">{disk.path}</span>
              <span className="dim nowrap">
                {bytes(disk.free_bytes)} free ·{" "}
                {percent(100 - (100 * disk.free_bytes) / Math.max(1, disk.size_bytes))}
              </span>
            </div>
            <Meter part={disk.size_bytes - disk.free_bytes} whole={disk.size_bytes} />
          </div>
        ))}
      </div>
    </Panel>
  );
}
