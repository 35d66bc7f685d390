import { Button, Group, Modal, Select, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconClipboardList } from "@tabler/icons-react";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";

import * as read from "../api/queries";
import type { Audit } from "../api/types";
import { words } from "../domain/format";
import type { Tone } from "../domain/state";
import { Ago, Code, Curl, Empty, Facts, Loaded, Page, Panel, State } from "../ui/basics";
import { type Column, DataTable } from "../ui/DataTable";
import { More } from "../ui/lists";

const TONES: Record<string, Tone> = { done: "good", refused: "warn", failed: "bad" };
const TYPED_MS = 300;

export function AuditLog() {
  const [actor, setActor] = useState("");
  const [action, setAction] = useState("");
  const [outcome, setOutcome] = useState<string | null>(null);
  const [shown, setShown] = useState<Audit | null>(null);
  const [typed] = useDebouncedValue({ actor: actor.trim(), action: action.trim() }, TYPED_MS);
  const query = useInfiniteQuery(
    read.audit({
      ...(typed.actor && { actor: typed.actor }),
      ...(typed.action && { action: typed.action }),
      ...(outcome && { outcome }),
    }),
  );
  return (
    <Page
      title="Audit"
      sub="Who did what, from where, and whether it was allowed"
      actions={<Curl path="/api/v1/audit" />}
    >
      <Panel
        flush
        actions={
          <Group gap={8} wrap="wrap">
            <TextInput
              size="xs"
              w={130}
              aria-label="Who"
              placeholder="Who"
              value={actor}
              onChange={(event) => setActor(event.currentTarget.value)}
            />
            <TextInput
              size="xs"
              w={160}
              aria-label="What"
              placeholder="What, as sign_in"
              value={action}
              onChange={(event) => setAction(event.currentTarget.value)}
            />
            <Select
              size="xs"
              w={130}
              aria-label="Outcome"
              placeholder="Any outcome"
              clearable
              clearButtonProps={{ "aria-label": "Any outcome" }}
              data={["done", "refused", "failed"]}
              value={outcome}
              onChange={setOutcome}
            />
          </Group>
        }
      >
        <Loaded query={query}>
          {(data) => {
            const rows = data.pages.flatMap((page) => page.items);
            return rows.length === 0 ? (
              <Empty icon={IconClipboardList} title="No entry fits">
                Each change, and each attempt that was refused, has an entry here.
              </Empty>
            ) : (
              <>
                <DataTable
                  label="Audit log"
                  rows={rows}
                  columns={columns(setShown)}
                  rowKey={(row) => row.id}
                />
                <More query={query} />
              </>
            );
          }}
        </Loaded>
      </Panel>
      <Modal
        opened={shown !== null}
        onClose={() => setShown(null)}
        title={shown && words(shown.action)}
        size="lg"
      >
        {shown && <Entry entry={shown} />}
      </Modal>
    </Page>
  );
}

const columns = (show: (entry: Audit) => void): Column<Audit>[] => [
  {
    id: "at",
    header: "When",
    cell: (row) => (
      <span className="dim">
        <Ago time={row.at} />
      </span>
    ),
  },
  { id: "actor", header: "Who", className: "main-cell", cell: (row) => row.actor },
  { id: "action", header: "What", cell: (row) => words(row.action) },
  { id: "subject", header: "On", cell: (row) => <span className="event-text">{row.subject}</span> },
  {
    id: "outcome",
    header: "Outcome",
    cell: (row) => <State shown={{ tone: TONES[row.outcome] ?? "idle", label: row.outcome }} />,
  },
  { id: "project", header: "Project", className: "wide", cell: (row) => row.project },
  {
    id: "address",
    header: "From",
    className: "wide",
    cell: (row) => <span className="mono dim">{row.address}</span>,
  },
  {
    id: "more",
    header: "",
    className: "actions",
    cell: (row) => (
      <Button size="compact-xs" variant="subtle" color="gray" onClick={() => show(row)}>
        Details
      </Button>
    ),
  },
];

function Entry({ entry }: { entry: Audit }) {
  const change = { before: entry.before ?? undefined, after: entry.after ?? undefined };
  return (
    <div className="stack">
      <Facts
        items={[
          ["Who", `${entry.actor} (${entry.actor_kind})`],
          ["On", entry.subject],
          ["Outcome", entry.outcome],
          ["When", <Ago time={entry.at} />],
          ["From", <span className="mono">{entry.address}</span>],
          ["Request", <span className="mono">{entry.request_id}</span>],
        ]}
      />
      {(change.before ?? change.after) !== undefined && (
        <Code text={JSON.stringify(change, null, 2)} what="the change" />
      )}
    </div>
  );
}
