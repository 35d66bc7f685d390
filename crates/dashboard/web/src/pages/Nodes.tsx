import { TextInput } from "@mantine/core";
import { IconSearch, IconServer2 } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import * as read from "../api/queries";
import type { Node } from "../api/types";
import { bytes, cores } from "../domain/format";
import { nodeShown } from "../domain/state";
import { Ago, Chips, Curl, Empty, Loaded, Page, Panel, State } from "../ui/basics";
import { type Column, DataTable } from "../ui/DataTable";
import { AddNodeButton } from "./AddNode";

const COLUMNS: Column<Node>[] = [
  {
    id: "name",
    header: "Node",
    sort: (node) => node.name,
    className: "main-cell",
    cell: (node) => (
      <Link className="quiet" to="/nodes/$node" params={{ node: node.name }}>
        {node.name}
      </Link>
    ),
  },
  {
    id: "state",
    header: "State",
    sort: (node) => node.state,
    cell: (node) => <State shown={nodeShown(node)} />,
  },
  {
    id: "instances",
    header: "Instances",
    className: "num",
    sort: (node) => node.instance_count,
    cell: (node) => node.instance_count,
  },
  {
    id: "cpu",
    header: "CPU",
    className: "num wide",
    sort: (node) => node.facts.cpu_millis,
    cell: (node) => cores(node.facts.cpu_millis),
  },
  {
    id: "memory",
    header: "Memory",
    className: "num wide",
    sort: (node) => node.facts.memory_bytes,
    cell: (node) => bytes(node.facts.memory_bytes),
  },
  {
    id: "disk",
    header: "Disk free",
    className: "num wide",
    sort: (node) => node.facts.disk_free_bytes,
    cell: (node) => bytes(node.facts.disk_free_bytes),
  },
  { id: "labels", header: "Labels", className: "wide", cell: (node) => <Chips of={node.labels} /> },
  {
    id: "engine",
    header: "Engine",
    className: "wide",
    sort: (node) => node.facts.engine_version ?? "",
    cell: (node) => node.facts.engine_version ?? <span className="dim">does not answer</span>,
  },
  {
    id: "agent",
    header: "Agent",
    className: "wide",
    sort: (node) => node.facts.agent_version,
    cell: (node) => node.facts.agent_version,
  },
  {
    id: "seen",
    header: "Last heard of",
    sort: (node) => node.last_seen_at ?? "",
    cell: (node) => (
      <span className="dim">
        <Ago time={node.last_seen_at} />
      </span>
    ),
  },
];

export function Nodes() {
  const nodes = useQuery(read.nodes);
  const [search, setSearch] = useState("");
  return (
    <Page
      title="Nodes"
      actions={
        <>
          <Curl path="/api/v1/nodes" />
          <AddNodeButton />
        </>
      }
    >
      <Panel
        flush
        title={nodes.data ? `${nodes.data.length} ${nodes.data.length === 1 ? "node" : "nodes"}` : "Nodes"}
        actions={<Search value={search} set={setSearch} what="nodes" />}
      >
        <Loaded query={nodes}>
          {(all) =>
            all.length === 0 ? (
              <Empty icon={IconServer2} title="No nodes yet" action={<AddNodeButton />}>
                A node is a Docker host with an agent. Add one, and deployments can run on it.
              </Empty>
            ) : (
              <DataTable
                label="Nodes"
                rows={all.filter((node) =>
                  matches(search, node.name, ...Object.values(node.labels), node.state),
                )}
                columns={COLUMNS}
                rowKey={(node) => node.id}
                sortedBy="name"
              />
            )
          }
        </Loaded>
      </Panel>
    </Page>
  );
}

export function matches(search: string, ...texts: string[]): boolean {
  const wanted = search.trim().toLowerCase();
  return texts.some((text) => text.toLowerCase().includes(wanted));
}

export function Search(props: { value: string; set: (value: string) => void; what: string }) {
  return (
    <TextInput
      size="xs"
      w={210}
      leftSection={<IconSearch size={14} />}
      placeholder={`Find ${props.what}`}
      aria-label={`Find ${props.what}`}
      value={props.value}
      onChange={(event) => props.set(event.currentTarget.value)}
    />
  );
}
