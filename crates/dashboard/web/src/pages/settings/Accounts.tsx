import { Button, Group, Modal, PasswordInput, Select, Stack, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, take } from "../../api/client";
import * as read from "../../api/queries";
import type { AccountRecord } from "../../api/types";
import { useSession } from "../../session/session";
import { Ago, Fault, Loaded, Panel } from "../../ui/basics";
import { ask } from "../../ui/ask";
import { type Column, DataTable } from "../../ui/DataTable";
import { say, sayFailed } from "../../ui/toast";

export const ROLES = [
  { value: "admin", label: "admin" },
  { value: "operator", label: "operator" },
  { value: "viewer", label: "viewer" },
  { value: "none", label: "none: projects only" },
];

async function update(account: AccountRecord, body: { role?: string; disabled?: boolean }): Promise<void> {
  await take(api.PATCH("/api/v1/accounts/{account}", { params: { path: { account: account.id } }, body }));
  say(`${account.name} is changed`);
  await read.queryClient.invalidateQueries(read.accounts);
}

function askRole(account: AccountRecord, role: string) {
  ask({
    title: `Make ${account.name} ${role === "none" ? "a member of projects only" : role}?`,
    text: "All sessions of the account end; it signs in again with its new role.",
    action: "Change the role",
    work: () => update(account, { role }),
  });
}

function turn(account: AccountRecord) {
  const disabled = !account.disabled_at;
  if (!disabled) {
    update(account, { disabled }).catch((error: unknown) => sayFailed("Not enabled", error));
    return;
  }
  ask({
    title: `Disable ${account.name}?`,
    text: "Its sessions end at once, and its API tokens are refused until somebody enables it again.",
    action: "Disable it",
    danger: true,
    work: () => update(account, { disabled }),
  });
}

const columns = (own: string | undefined): Column<AccountRecord>[] => [
  { id: "name", header: "Name", className: "main-cell", sort: (one) => one.name, cell: (one) => one.name },
  { id: "kind", header: "Kind", className: "wide", cell: (one) => one.kind },
  {
    id: "role",
    header: "Role",
    sort: (one) => one.role,
    cell: (one) =>
      one.id === own ? (
        one.role
      ) : (
        <Select
          size="xs"
          w={150}
          aria-label={`Role of ${one.name}`}
          data={ROLES}
          value={one.role}
          allowDeselect={false}
          onChange={(role) => role && role !== one.role && askRole(one, role)}
        />
      ),
  },
  { id: "email", header: "E-mail", className: "wide", cell: (one) => one.email },
  {
    id: "state",
    header: "State",
    cell: (one) =>
      one.disabled_at ? (
        <span className="state tone-stale">disabled</span>
      ) : (
        <span className="state tone-good">active</span>
      ),
  },
  {
    id: "made",
    header: "Made",
    className: "wide",
    sort: (one) => one.created_at,
    cell: (one) => <Ago time={one.created_at} />,
  },
  {
    id: "actions",
    header: "",
    className: "actions",
    cell: (one) =>
      one.id !== own && (
        <Button size="compact-xs" variant="default" onClick={() => turn(one)}>
          {one.disabled_at ? "Enable" : "Disable"}
        </Button>
      ),
  },
];

export function Accounts() {
  const accounts = useQuery(read.accounts);
  const own = useSession((state) => state.account?.id);
  const [opened, { open, close }] = useDisclosure(false);
  return (
    <Panel
      title="Accounts"
      flush
      actions={
        <Button size="xs" leftSection={<IconPlus size={14} />} onClick={open}>
          New account
        </Button>
      }
    >
      <Loaded query={accounts}>
        {(all) => (
          <DataTable
            label="Accounts"
            rows={all}
            columns={columns(own)}
            rowKey={(one) => one.id}
            sortedBy="name"
          />
        )}
      </Loaded>
      <Modal opened={opened} onClose={close} title="New account">
        <Make close={close} />
      </Modal>
    </Panel>
  );
}

function Make({ close }: { close: () => void }) {
  const [kind, setKind] = useState<string | null>("user");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [role, setRole] = useState<string | null>("viewer");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      const body = { name, role: role ?? "viewer", kind, ...(kind === "user" && { password }) };
      await take(api.POST("/api/v1/accounts", { body }));
      say(`${name} is made`);
      await read.queryClient.invalidateQueries(read.accounts);
      close();
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
        <Select
          label="Kind"
          data={[
            { value: "user", label: "a person, who signs in" },
            { value: "service", label: "a program, which uses API tokens" },
          ]}
          value={kind}
          onChange={setKind}
          allowDeselect={false}
        />
        <TextInput
          label="Name"
          required
          withAsterisk={false}
          autoComplete="off"
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        {kind === "user" && (
          <PasswordInput
            label="First password"
            description="12 characters or more. An invite spares you from knowing it."
            autoComplete="new-password"
            required
            withAsterisk={false}
            value={password}
            onChange={(event) => setPassword(event.currentTarget.value)}
          />
        )}
        <Select
          label="Role on the fleet"
          data={ROLES}
          value={role}
          onChange={setRole}
          allowDeselect={false}
        />
        {error !== null && <Fault error={error} />}
        <Group justify="flex-end">
          <Button type="submit" loading={busy}>
            Make it
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
