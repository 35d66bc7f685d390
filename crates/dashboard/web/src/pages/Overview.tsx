import { Button, Group } from "@mantine/core";
import { IconBox, IconCircleCheck, IconPlus, IconServer2 } from "@tabler/icons-react";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import type { MouseEvent } from "react";

import * as read from "../api/queries";
import type { Deployment, Instance, Node } from "../api/types";
import { astray, byNode, isPresent, sums } from "../domain/fleet";
import { bytes, cores, exact, shortId } from "../domain/format";
import { deploymentShown, instanceShown, nodeShown } from "../domain/state";
import { useAccess } from "../shell/access";
import { Ago, Empty, Loaded, Meter, Page, Panel, State } from "../ui/basics";
import { EventList, OperationRow } from "../ui/lists";
import { AddNodeButton } from "./AddNode";

export function Overview() {
  const access = useAccess();
  const nodes = useQuery({ ...read.nodes, enabled: access.fleet });
  const deployments = useQuery(read.deployments);
  return (
    <Page
      title="Overview"
      actions={
        access.operatesSomewhere && (
          <Button
            leftSection={<IconPlus size={16} />}
            renderRoot={(props: object) => <Link to="/deploy" {...props} />}
          >
            New deployment
          </Button>
        )
      }
    >
      <Loaded query={deployments}>
        {(all) => (
          <>
            {nodes.data && nodes.data.length > 0 && <Figures nodes={nodes.data} deployments={all} />}
            <div className="split">
              <div className="stack">
                {access.fleet ? (
                  <Panel title="Fleet" flush actions={<Legend />}>
                    <Loaded query={nodes}>{(known) => <FleetMap nodes={known} deployments={all} />}</Loaded>
                  </Panel>
                ) : (
                  <Panel title="Your instances" flush>
                    <Cells instances={all.flatMap((one) => one.instances.filter(isPresent))} />
                  </Panel>
                )}
                <Astray deployments={all} />
                <Running />
              </div>
              <Panel title="Events" flush actions={<MoreLink to="/events" />}>
                <EventList />
              </Panel>
            </div>
          </>
        )}
      </Loaded>
    </Page>
  );
}

function MoreLink({ to }: { to: string }) {
  return (
    <Button
      variant="subtle"
      color="gray"
      size="compact-xs"
      renderRoot={(props: object) => <Link to={to} {...props} />}
    >
      All
    </Button>
  );
}

function Figures(props: { nodes: Node[]; deployments: Deployment[] }) {
  const sum = sums(props.nodes, props.deployments);
  return (
    <div className="figures">
      <div className="figure">
        <div className="name">Nodes ready</div>
        <div className="value">
          {sum.nodesReady} <small>of {sum.nodes}</small>
        </div>
        <Share part={sum.nodesReady} whole={sum.nodes} />
      </div>
      <div className="figure">
        <div className="name">Instances well</div>
        <div className="value">
          {sum.instancesWell} <small>of {sum.instances}</small>
        </div>
        <Share part={sum.instancesWell} whole={sum.instances} />
      </div>
      <div className="figure">
        <div className="name">CPU reserved</div>
        <div className="value">
          {cores(sum.cpuReservedMillis).split(" ")[0]} <small>of {cores(sum.cpuMillis)}</small>
        </div>
        <Meter part={sum.cpuReservedMillis} whole={sum.cpuMillis} />
      </div>
      <div className="figure">
        <div className="name">Memory reserved</div>
        <div className="value">
          {bytes(sum.memoryReservedBytes)} <small>of {bytes(sum.memoryBytes)}</small>
        </div>
        <Meter part={sum.memoryReservedBytes} whole={sum.memoryBytes} />
      </div>
    </div>
  );
}

/** How many of all are well: anything less than all is not. */
function Share({ part, whole }: { part: number; whole: number }) {
  const tone = part === whole ? "good" : part === 0 ? "bad" : "warn";
  return (
    <div className={`meter tone-${tone}`} aria-hidden>
      <span style={{ width: whole > 0 ? `${(100 * part) / whole}%` : 0 }} />
    </div>
  );
}

function Legend() {
  return (
    <div className="legend" style={{ marginRight: 8 }}>
      {[
        ["good", "well"],
        ["busy", "under way"],
        ["bad", "not well"],
        ["idle", "stopped"],
        ["stale", "as last seen"],
      ].map(([tone, word]) => (
        <span key={tone}>
          <i className={`cell tone-${tone}`} style={{ animation: "none" }} />
          {word}
        </span>
      ))}
    </div>
  );
}

function FleetMap({ nodes, deployments }: { nodes: Node[]; deployments: Deployment[] }) {
  const instances = byNode(deployments);
  if (nodes.length === 0) {
    return (
      <Empty icon={IconServer2} title="No nodes yet" action={<AddNodeButton />}>
        A node is a Docker host with an agent. Add one, and deployments can run on it.
      </Empty>
    );
  }
  return (
    <div className="map">
      {nodes.map((node) => (
        <MapNode key={node.id} node={node} instances={instances.get(node.name) ?? []} />
      ))}
    </div>
  );
}

function MapNode({ node, instances }: { node: Node; instances: Instance[] }) {
  const shown = nodeShown(node);
  return (
    <article className={`map-node tone-${shown.tone}`} aria-label={`Node ${node.name}, ${shown.label}`}>
      <header>
        <span className={`dot tone-${shown.tone}`} aria-hidden />
        <Link className="quiet cut" to="/nodes/$node" params={{ node: node.name }}>
          {node.name}
        </Link>
        {shown.tone !== "good" && (
          <span style={{ marginLeft: "auto" }}>
            <State shown={shown} />
          </span>
        )}
      </header>
      <div className="about">
        {shown.tone === "stale" ? (
          <>
            last heard of <Ago time={node.last_seen_at} />
          </>
        ) : (
          <>
            {cores(node.facts.cpu_millis)} · {bytes(node.facts.memory_bytes)}
          </>
        )}
      </div>
      <Cells instances={instances} bare />
    </article>
  );
}

/**
 * One cell per instance. Thousands may be in sight, so they are bare links, and one
 * listener for all of them goes there without loading the page anew.
 */
function Cells({ instances, bare = false }: { instances: Instance[]; bare?: boolean }) {
  const navigate = useNavigate();
  const go = (event: MouseEvent<HTMLDivElement>) => {
    const link = (event.target as Element).closest("a");
    if (!link || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
      return;
    event.preventDefault();
    void navigate({ href: link.getAttribute("href") ?? "/" });
  };
  return (
    <div className="cells" style={bare ? undefined : { padding: 16 }} onClick={go}>
      {instances.map((instance) => (
        <Cell key={instance.id} instance={instance} />
      ))}
      {instances.length === 0 && (
        <span className="dim" style={{ fontSize: "0.74rem" }}>
          nothing runs here
        </span>
      )}
    </div>
  );
}

function Cell({ instance }: { instance: Instance }) {
  const shown = instanceShown(instance);
  const name = `${instance.deployment} ${shortId(instance.id)}: ${shown.label}`;
  const seen = shown.tone === "stale" && instance.observed_at ? `Seen ${exact(instance.observed_at)}.` : "";
  return (
    <a
      className={`cell tone-${shown.tone}`}
      href={`/instances/${instance.id}`}
      aria-label={name}
      title={[name, shown.why, seen].filter(Boolean).join("\n")}
    />
  );
}

function Astray({ deployments }: { deployments: Deployment[] }) {
  const access = useAccess();
  const off = astray(deployments);
  if (deployments.length === 0) {
    return (
      <Panel title="Deployments" flush>
        <Empty
          icon={IconBox}
          title="Nothing is deployed"
          action={
            access.operatesSomewhere && (
              <Button renderRoot={(props: object) => <Link to="/deploy" {...props} />}>
                Deploy something
              </Button>
            )
          }
        >
          Name an image and how many copies you want; the fleet keeps them running.
        </Empty>
      </Panel>
    );
  }
  return (
    <Panel title="Deployments not as declared" flush actions={<MoreLink to="/deployments" />}>
      {off.length === 0 ? (
        <div
          className="panel-body dim"
          style={{ display: "flex", gap: 8, alignItems: "center", fontSize: "0.8125rem" }}
        >
          <IconCircleCheck size={17} color="var(--good)" aria-hidden /> All {deployments.length} are as
          declared.
        </div>
      ) : (
        <ul className="rows">
          {off.map((deployment) => {
            const shown = deploymentShown(deployment);
            return (
              <li key={deployment.id}>
                <Group gap={10} className="grow">
                  <Link
                    className="quiet"
                    style={{ fontWeight: 550 }}
                    to="/deployments/$deployment"
                    params={{ deployment: deployment.id }}
                  >
                    {deployment.name}
                  </Link>
                  <State shown={shown} />
                  <span className="dim event-text">{shown.why}</span>
                </Group>
                <span className="when">
                  {deployment.healthy} of {deployment.spec.replicas} healthy
                </span>
              </li>
            );
          })}
        </ul>
      )}
    </Panel>
  );
}

function Running() {
  const query = useInfiniteQuery(read.operations);
  const running =
    query.data?.pages.flatMap((page) => page.items).filter((one) => one.state === "running") ?? [];
  if (running.length === 0) return null;
  return (
    <Panel title="Operations under way" flush actions={<MoreLink to="/operations" />}>
      <ul className="rows">
        {running.map((operation) => (
          <OperationRow key={operation.id} operation={operation} />
        ))}
      </ul>
    </Panel>
  );
}
