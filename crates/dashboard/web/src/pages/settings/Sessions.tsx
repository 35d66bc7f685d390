import { Button } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import { api, take } from "../../api/client";
import * as read from "../../api/queries";
import type { OwnSession } from "../../api/types";
import { signOut } from "../../session/session";
import { Ago, Loaded, Panel } from "../../ui/basics";
import { ask } from "../../ui/ask";
import { type Column, DataTable } from "../../ui/DataTable";
import { say } from "../../ui/toast";

/** The program and the system, out of what a browser calls itself. */
export function agentName(agent: string | null | undefined): string {
  if (!agent) return "unknown";
  const browser = /(Edg|Firefox|Chrome|Safari|curl)\/?([\d]+)?/.exec(agent);
  const system = /(Windows|Mac OS X|Android|iPhone|Linux)/.exec(agent);
  if (!browser) return agent.slice(0, 40);
  return [browser[1] === "Edg" ? "Edge" : browser[1], browser[2], system && `on ${system[1]}`]
    .filter(Boolean)
    .join(" ");
}

const end = (session: OwnSession) =>
  ask({
    title: "End this session?",
    text: `${agentName(session.user_agent)} is signed out at once.`,
    action: "End it",
    danger: true,
    work: async () => {
      await take(
        api.DELETE("/api/v1/auth/sessions/{session}", { params: { path: { session: session.id } } }),
      );
      say("The session has ended");
      await read.queryClient.invalidateQueries(read.sessions);
    },
  });

const COLUMNS: Column<OwnSession>[] = [
  {
    id: "agent",
    header: "With",
    className: "main-cell",
    cell: (one) => (
      <span title={one.user_agent ?? undefined}>
        {agentName(one.user_agent)}
        {one.current && (
          <span className="state tone-good" style={{ marginLeft: 8 }}>
            this one
          </span>
        )}
      </span>
    ),
  },
  { id: "method", header: "By", className: "wide", cell: (one) => one.method },
  { id: "address", header: "From", cell: (one) => <span className="mono">{one.address}</span> },
  {
    id: "used",
    header: "Last used",
    sort: (one) => one.last_used_at,
    cell: (one) => <Ago time={one.last_used_at} />,
  },
  { id: "began", header: "Began", className: "wide", cell: (one) => <Ago time={one.created_at} /> },
  {
    id: "actions",
    header: "",
    className: "actions",
    cell: (one) =>
      !one.current && (
        <Button size="compact-xs" variant="default" onClick={() => end(one)}>
          End
        </Button>
      ),
  },
];

export function Sessions() {
  const sessions = useQuery(read.sessions);
  return (
    <Panel
      title="Where you are signed in"
      flush
      actions={
        <Button
          size="xs"
          variant="default"
          onClick={() =>
            ask({
              title: "Sign out everywhere?",
              text: "All your sessions end, this one too. API tokens stay.",
              action: "Sign out everywhere",
              danger: true,
              work: () => signOut(true),
            })
          }
        >
          Sign out everywhere
        </Button>
      }
    >
      <Loaded query={sessions}>
        {(all) => (
          <DataTable
            label="Sessions"
            rows={all}
            columns={COLUMNS}
            rowKey={(one) => one.id}
            sortedBy="used"
            descending
          />
        )}
      </Loaded>
    </Panel>
  );
}
