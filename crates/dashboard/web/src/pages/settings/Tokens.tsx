import { Button, Group, Modal, MultiSelect, Select, Stack, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconKey, IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, take } from "../../api/client";
import * as read from "../../api/queries";
import type { ApiToken } from "../../api/types";
import { Ago, Chips, Empty, Fault, Loaded, Panel } from "../../ui/basics";
import { ask } from "../../ui/ask";
import { type Column, DataTable } from "../../ui/DataTable";
import { say } from "../../ui/toast";
import { Secret } from "./Secret";

const SCOPES = [
  "*",
  "*:read",
  "deployments:read",
  "deployments:write",
  "events:read",
  "nodes:read",
  "nodes:write",
  "projects:read",
  "projects:write",
  "members:write",
  "accounts:read",
  "accounts:write",
  "audit:read",
  "settings:read",
  "settings:write",
  "tokens:read",
  "tokens:write",
];
const LIVES = [
  { value: "604800", label: "a week" },
  { value: "2592000", label: "30 days" },
  { value: "31536000", label: "a year" },
  { value: "never", label: "until it is deleted" },
];

const remove = (token: ApiToken) =>
  ask({
    title: `Delete the token ${token.name}?`,
    text: "Whatever uses it is refused from now on.",
    action: "Delete it",
    danger: true,
    work: async () => {
      await take(api.DELETE("/api/v1/api-tokens/{api_token}", { params: { path: { api_token: token.id } } }));
      say("The token is deleted");
      await read.queryClient.invalidateQueries(read.apiTokens);
    },
  });

const COLUMNS: Column<ApiToken>[] = [
  { id: "name", header: "For", className: "main-cell", sort: (one) => one.name, cell: (one) => one.name },
  { id: "account", header: "Acts as", className: "wide", cell: (one) => one.account },
  { id: "scopes", header: "Scopes", className: "wide", cell: (one) => <Chips of={one.scopes} /> },
  {
    id: "used",
    header: "Last used",
    cell: (one) => (one.last_used_at ? <Ago time={one.last_used_at} /> : <span className="dim">never</span>),
  },
  {
    id: "ends",
    header: "Ends",
    cell: (one) => (one.expires_at ? <Ago time={one.expires_at} /> : <span className="dim">never</span>),
  },
  {
    id: "actions",
    header: "",
    className: "actions",
    cell: (one) => (
      <Button size="compact-xs" variant="default" onClick={() => remove(one)}>
        Delete
      </Button>
    ),
  },
];

export function Tokens() {
  const tokens = useQuery(read.apiTokens);
  const [opened, { open, close }] = useDisclosure(false);
  const [made, setMade] = useState<string | null>(null);
  const add = (
    <Button size="xs" leftSection={<IconPlus size={14} />} onClick={open}>
      New token
    </Button>
  );
  return (
    <Panel title="API tokens" flush actions={add}>
      <Loaded query={tokens}>
        {(all) =>
          all.length === 0 ? (
            <Empty icon={IconKey} title="No tokens">
              Programs use a token in place of a sign-in. It can do what you can, or less.
            </Empty>
          ) : (
            <DataTable
              label="API tokens"
              rows={all}
              columns={COLUMNS}
              rowKey={(one) => one.id}
              sortedBy="name"
            />
          )
        }
      </Loaded>
      <Modal opened={opened} onClose={close} title="New API token">
        <Make
          made={(token) => {
            close();
            setMade(token);
          }}
        />
      </Modal>
      <Secret
        title="The token"
        text={made}
        about="Put it into Authorization: Bearer …"
        close={() => setMade(null)}
      />
    </Panel>
  );
}

function Make({ made }: { made: (token: string) => void }) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState<string[]>(["*:read"]);
  const [life, setLife] = useState<string | null>("2592000");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      const body = { name, scopes, ...(life !== "never" && { expires_in_seconds: Number(life) }) };
      const { token } = await take(api.POST("/api/v1/api-tokens", { body }));
      await read.queryClient.invalidateQueries(read.apiTokens);
      made(token);
    } catch (caught) {
      setError(caught);
      setBusy(false);
    }
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      <Stack gap="sm">
        <TextInput
          label="What it is for"
          required
          withAsterisk={false}
          data-autofocus
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <MultiSelect
          label="What it may do"
          description="Never more than you may."
          data={SCOPES}
          value={scopes}
          onChange={setScopes}
        />
        <Select label="Good for" data={LIVES} value={life} onChange={setLife} allowDeselect={false} />
        {error !== null && <Fault error={error} />}
        <Group justify="flex-end">
          <Button type="submit" loading={busy} disabled={scopes.length === 0}>
            Make it
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
