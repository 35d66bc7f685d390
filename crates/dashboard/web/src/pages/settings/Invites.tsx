import { Button, Group, Modal, Select, Stack } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconMail, IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, take } from "../../api/client";
import * as read from "../../api/queries";
import type { Invite } from "../../api/types";
import { Ago, Empty, Fault, Loaded, Panel } from "../../ui/basics";
import { ask } from "../../ui/ask";
import { type Column, DataTable } from "../../ui/DataTable";
import { say } from "../../ui/toast";
import { ROLES } from "./Accounts";
import { Secret } from "./Secret";

const LIVES = [
  { value: "3600", label: "an hour" },
  { value: "86400", label: "a day" },
  { value: "604800", label: "a week" },
];

const remove = (invite: Invite) =>
  ask({
    title: "Take the invite back?",
    text: "Whoever has its link can no longer register with it.",
    action: "Take it back",
    danger: true,
    work: async () => {
      await take(api.DELETE("/api/v1/invites/{invite}", { params: { path: { invite: invite.id } } }));
      say("The invite is taken back");
      await read.queryClient.invalidateQueries(read.invites);
    },
  });

const COLUMNS: Column<Invite>[] = [
  { id: "role", header: "For the role", className: "main-cell", cell: (one) => one.role },
  {
    id: "state",
    header: "State",
    cell: (one) =>
      one.used_at ? (
        <span className="state tone-idle">used</span>
      ) : Date.parse(one.expires_at) < Date.now() ? (
        <span className="state tone-stale">ended</span>
      ) : (
        <span className="state tone-good">open</span>
      ),
  },
  { id: "by", header: "Made by", cell: (one) => one.created_by ?? "the controller" },
  {
    id: "made",
    header: "Made",
    className: "wide",
    sort: (one) => one.created_at,
    cell: (one) => <Ago time={one.created_at} />,
  },
  { id: "ends", header: "Ends", className: "wide", cell: (one) => <Ago time={one.expires_at} /> },
  {
    id: "actions",
    header: "",
    className: "actions",
    cell: (one) =>
      !one.used_at && (
        <Button size="compact-xs" variant="default" onClick={() => remove(one)}>
          Take back
        </Button>
      ),
  },
];

export function Invites() {
  const invites = useQuery(read.invites);
  const [opened, { open, close }] = useDisclosure(false);
  const [link, setLink] = useState<string | null>(null);
  return (
    <Panel
      title="Invites"
      flush
      actions={
        <Button size="xs" leftSection={<IconPlus size={14} />} onClick={open}>
          New invite
        </Button>
      }
    >
      <Loaded query={invites}>
        {(all) =>
          all.length === 0 ? (
            <Empty icon={IconMail} title="No invites">
              An invite is a link by which one person makes an account with the role that you choose.
            </Empty>
          ) : (
            <DataTable
              label="Invites"
              rows={all}
              columns={COLUMNS}
              rowKey={(one) => one.id}
              sortedBy="made"
              descending
            />
          )
        }
      </Loaded>
      <Modal opened={opened} onClose={close} title="New invite">
        <Make
          made={(invite) => {
            close();
            setLink(`${location.origin}/register#invite=${invite}`);
          }}
        />
      </Modal>
      <Secret
        title="The invite"
        text={link}
        about="Send this link to the person that you invite; it is good for one account."
        close={() => setLink(null)}
      />
    </Panel>
  );
}

function Make({ made }: { made: (invite: string) => void }) {
  const [role, setRole] = useState<string | null>("viewer");
  const [life, setLife] = useState<string | null>("86400");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      const body = { role: role ?? "viewer", expires_in_seconds: Number(life) };
      const { invite } = await take(api.POST("/api/v1/invites", { body }));
      await read.queryClient.invalidateQueries(read.invites);
      made(invite);
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
          label="Role on the fleet"
          data={ROLES}
          value={role}
          onChange={setRole}
          allowDeselect={false}
        />
        <Select label="Good for" data={LIVES} value={life} onChange={setLife} allowDeselect={false} />
        {error !== null && <Fault error={error} />}
        <Group justify="flex-end">
          <Button type="submit" loading={busy}>
            Make the invite
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
