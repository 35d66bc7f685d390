/** Lists that several pages show: events, operations, instances. */

import { ActionIcon, Button, Group, Menu, Tooltip } from "@mantine/core";
import {
  IconActivity,
  IconDots,
  IconListCheck,
  IconPlayerPlay,
  IconPlayerStop,
  IconRefresh,
} from "@tabler/icons-react";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import { api, take } from "../api/client";
import * as read from "../api/queries";
import type { FleetEvent, Instance, Operation } from "../api/types";
import { shortId, words } from "../domain/format";
import { eventTone, instanceShown, operationShown } from "../domain/state";
import { Ago, Empty, Loaded, State } from "./basics";
import { ask } from "./ask";
import { type Column, DataTable } from "./DataTable";
import { say, sayFailed } from "./toast";

export function EventRow({ event, about = true }: { event: FleetEvent; about?: boolean }) {
  return (
    <li>
      <span className={`dot tone-${eventTone(event)}`} aria-hidden />
      <div className="grow">
        <div className="event-text">{event.message}</div>
        {about && <About event={event} />}
      </div>
      <span className="when">
        <Ago time={event.at} />
      </span>
    </li>
  );
}

function About({ event }: { event: FleetEvent }) {
  const parts: ReactNode[] = [];
  if (event.deployment)
    parts.push(
      <Link key="d" className="quiet" to="/deployments/$deployment" params={{ deployment: event.deployment }}>
        {event.deployment}
      </Link>,
    );
  if (event.node)
    parts.push(
      <Link key="n" className="quiet" to="/nodes/$node" params={{ node: event.node }}>
        {event.node}
      </Link>,
    );
  if (event.instance_id)
    parts.push(
      <Link key="i" className="quiet mono" to="/instances/$instance" params={{ instance: event.instance_id }}>
        {shortId(event.instance_id)}
      </Link>,
    );
  if (event.cause) parts.push(<span key="c">{words(event.cause)}</span>);
  if (event.actor) parts.push(<span key="a">by {event.actor}</span>);
  return parts.length > 0 ? <div className="event-about">{parts}</div> : null;
}

/** Events of something, the newest first, with more on demand. */
export function EventList({ filter, about = true }: { filter?: read.EventFilter; about?: boolean }) {
  const query = useInfiniteQuery(read.events(filter));
  return (
    <Loaded query={query}>
      {(data) => {
        const items = data.pages.flatMap((page) => page.items);
        if (items.length === 0) {
          return (
            <Empty icon={IconActivity} title="Nothing has happened yet">
              Whatever changes is told here, with its cause.
            </Empty>
          );
        }
        return (
          <>
            <ul className="rows">
              {items.map((event) => (
                <EventRow key={event.id} event={event} about={about} />
              ))}
            </ul>
            <More query={query} />
          </>
        );
      }}
    </Loaded>
  );
}

interface Growing {
  hasNextPage: boolean;
  isFetchingNextPage: boolean;
  fetchNextPage: () => Promise<unknown>;
}

export function More({ query }: { query: Growing }) {
  if (!query.hasNextPage) return null;
  return (
    <Group justify="center" p="sm">
      <Button
        variant="subtle"
        color="gray"
        size="xs"
        loading={query.isFetchingNextPage}
        onClick={() => void query.fetchNextPage()}
      >
        Show older ones
      </Button>
    </Group>
  );
}

export function OperationRow({ operation }: { operation: Operation }) {
  return (
    <li>
      <div className="grow">
        <Group gap={8} wrap="wrap">
          <Link className="quiet" to="/operations/$operation" params={{ operation: operation.id }}>
            {words(operation.kind)}
          </Link>
          <span className="dim">{operation.deployment}</span>
          <State shown={operationShown(operation)} />
        </Group>
        {operation.message && <div className="event-about">{operation.message}</div>}
      </div>
      <span className="when">
        <Ago time={operation.finished_at ?? operation.created_at} />
      </span>
    </li>
  );
}

export function OperationList({ of }: { of: (operation: Operation) => boolean }) {
  const query = useInfiniteQuery(read.operations);
  return (
    <Loaded query={query}>
      {(data) => {
        const items = data.pages.flatMap((page) => page.items).filter(of);
        if (items.length === 0) {
          return (
            <Empty icon={IconListCheck} title="No operations here">
              What somebody asks for is carried out as an operation, which ends with a verdict.
            </Empty>
          );
        }
        return (
          <>
            <ul className="rows">
              {items.map((operation) => (
                <OperationRow key={operation.id} operation={operation} />
              ))}
            </ul>
            <More query={query} />
          </>
        );
      }}
    </Loaded>
  );
}

/** How a pull goes on: bytes where they are known. */
export function pullText(instance: Instance): string | null {
  const { pull } = instance;
  if (!pull || instance.state !== "pulling") return null;
  if (!pull.total_bytes) return "pulling the image";
  return `${Math.floor((100 * pull.current_bytes) / pull.total_bytes)} % pulled`;
}

const COLUMNS: Column<Instance>[] = [
  {
    id: "id",
    header: "Instance",
    sort: (one) => one.id,
    className: "main-cell",
    cell: (one) => (
      <Link className="quiet mono" to="/instances/$instance" params={{ instance: one.id }}>
        {shortId(one.id)}
      </Link>
    ),
  },
  {
    id: "state",
    header: "State",
    sort: (one) => instanceShown(one).label,
    cell: (one) => (
      <Group gap={8} wrap="nowrap">
        <State shown={instanceShown(one)} />
        <span className="dim nowrap">{pullText(one)}</span>
      </Group>
    ),
  },
  {
    id: "deployment",
    header: "Deployment",
    sort: (one) => one.deployment,
    cell: (one) => (
      <Link className="quiet" to="/deployments/$deployment" params={{ deployment: one.deployment_id }}>
        {one.deployment}
      </Link>
    ),
  },
  {
    id: "node",
    header: "Node",
    sort: (one) => one.node,
    cell: (one) => (
      <Link className="quiet" to="/nodes/$node" params={{ node: one.node }}>
        {one.node}
      </Link>
    ),
  },
  {
    id: "ports",
    header: "Ports",
    className: "wide",
    cell: (one) =>
      one.ports.length === 0 ? (
        <span className="dim">none</span>
      ) : (
        <span className="mono">
          {one.ports
            .map((port) => `${one.address ?? ""}:${port.host_port} → ${port.container_port}`)
            .join(", ")}
        </span>
      ),
  },
  {
    id: "restarts",
    header: "Restarts",
    className: "num wide",
    sort: (one) => one.restarts,
    cell: (one) => one.restarts,
  },
  {
    id: "since",
    header: "Started",
    className: "wide",
    sort: (one) => one.started_at ?? "",
    cell: (one) => (
      <span className="dim">
        <Ago time={one.started_at} />
      </span>
    ),
  },
];

export function InstanceTable(props: {
  label: string;
  instances: readonly Instance[];
  without?: "node" | "deployment";
  operates: boolean;
}) {
  const columns = COLUMNS.filter((column) => column.id !== props.without);
  if (props.operates) {
    columns.push({
      id: "actions",
      header: "",
      className: "actions",
      cell: (one) => <InstanceMenu instance={one} />,
    });
  }
  return (
    <DataTable
      label={props.label}
      rows={props.instances}
      columns={columns}
      rowKey={(one) => one.id}
      sortedBy="id"
    />
  );
}

type Verb = "restart" | "stop" | "start";

/** Asks for it, and says what became of the request; the operation tells the rest. */
export async function command(instance: Instance, verb: Verb): Promise<void> {
  const params = { path: { instance: instance.id } };
  const path = `/api/v1/instances/{instance}/${verb}` as const;
  await take(api.POST(path, { params }));
  say(`Asked to ${verb} ${instance.deployment}`, `Instance ${shortId(instance.id)} on ${instance.node}`);
  await read.refreshAll();
}

export function askFor(instance: Instance, verb: "restart" | "stop"): void {
  const name = `${instance.deployment} ${shortId(instance.id)}`;
  ask({
    title: verb === "stop" ? `Stop ${name}?` : `Restart ${name}?`,
    text:
      verb === "stop"
        ? `The container on ${instance.node} ends, and stays down until somebody starts it.`
        : `The container on ${instance.node} ends and is started again; it does not answer meanwhile.`,
    action: verb === "stop" ? "Stop it" : "Restart it",
    danger: verb === "stop",
    work: () => command(instance, verb),
  });
}

export function start(instance: Instance): void {
  command(instance, "start").catch((error: unknown) => sayFailed("Not started", error));
}

export function InstanceMenu({ instance }: { instance: Instance }) {
  return (
    <Menu withInitialFocusPlaceholder={false} position="bottom-end" withinPortal>
      <Menu.Target>
        <Tooltip label="Actions">
          <ActionIcon variant="subtle" color="gray" aria-label={`Actions for ${shortId(instance.id)}`}>
            <IconDots size={16} />
          </ActionIcon>
        </Tooltip>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Item leftSection={<IconRefresh size={15} />} onClick={() => askFor(instance, "restart")}>
          Restart
        </Menu.Item>
        {instance.desired === "stopped" ? (
          <Menu.Item leftSection={<IconPlayerPlay size={15} />} onClick={() => start(instance)}>
            Start
          </Menu.Item>
        ) : (
          <Menu.Item leftSection={<IconPlayerStop size={15} />} onClick={() => askFor(instance, "stop")}>
            Stop
          </Menu.Item>
        )}
      </Menu.Dropdown>
    </Menu>
  );
}
