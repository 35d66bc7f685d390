import { Button, Group, Modal, NumberInput, Select, Stack, Text, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconCircleCheck, IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import { api, take } from "../api/client";
import * as read from "../api/queries";
import type { EnrolmentToken } from "../api/types";
import { useAccess } from "../shell/access";
import { Ago, Code, Fault, State } from "../ui/basics";
import { nodeShown } from "../domain/state";

const LIFETIMES = [
  { value: "3600", label: "an hour" },
  { value: "86400", label: "a day" },
  { value: "604800", label: "a week" },
];
/** One looks for the node this often only while somebody waits for it. */
const WAIT_POLL_MS = 10_000;

/** Reads `a=1, b=2`; null for what is none. */
export function parseLabels(text: string): Record<string, string> | null {
  const labels: Record<string, string> = {};
  for (const part of text.split(/[,\s]+/).filter(Boolean)) {
    const at = part.indexOf("=");
    if (at < 1) return null;
    labels[part.slice(0, at)] = part.slice(at + 1);
  }
  return labels;
}

export function AddNodeButton() {
  const access = useAccess();
  const [opened, { open, close }] = useDisclosure(false);
  if (!access.admin) return null;
  return (
    <>
      <Button leftSection={<IconPlus size={16} />} onClick={open}>
        Add a node
      </Button>
      <Modal opened={opened} onClose={close} title="Add a node" size="lg">
        <AddNode close={close} />
      </Modal>
    </>
  );
}

function AddNode({ close }: { close: () => void }) {
  const [token, setToken] = useState<EnrolmentToken | null>(null);
  return token ? <Wait token={token} close={close} /> : <Make made={setToken} />;
}

function Make({ made }: { made: (token: EnrolmentToken) => void }) {
  const [uses, setUses] = useState<number | string>(1);
  const [lifetime, setLifetime] = useState<string | null>("3600");
  const [labels, setLabels] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const parsed = parseLabels(labels);
  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      const body = {
        uses: Number(uses),
        expires_in_seconds: Number(lifetime),
        ...(parsed && Object.keys(parsed).length > 0 ? { labels: parsed } : {}),
      };
      made(await take(api.POST("/api/v1/enrolment-tokens", { body })));
    } catch (caught) {
      setError(caught);
      setBusy(false);
    }
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (parsed) void submit();
      }}
    >
      <Stack gap="md">
        <Text size="sm" c="dimmed">
          A token lets a Docker host join. The host's agent makes its own key; the token holds the fingerprint
          by which it knows this controller.
        </Text>
        <Group grow align="flex-start">
          <NumberInput label="For how many nodes" min={1} max={1000} value={uses} onChange={setUses} />
          <Select
            label="Good for"
            data={LIFETIMES}
            value={lifetime}
            onChange={setLifetime}
            allowDeselect={false}
          />
        </Group>
        <TextInput
          label="Labels"
          description="Constraints of deployments choose by them. Such as zone=a disk=ssd"
          value={labels}
          onChange={(event) => setLabels(event.currentTarget.value)}
          error={parsed ? undefined : "Write them as name=value."}
        />
        {error !== null && <Fault error={error} />}
        <Group justify="flex-end">
          <Button type="submit" loading={busy} data-autofocus>
            Make the token
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

function Wait({ token, close }: { token: EnrolmentToken; close: () => void }) {
  const nodes = useQuery({ ...read.nodes, refetchInterval: WAIT_POLL_MS });
  // Those that were there when the token was made are not the ones that one waits for.
  const [before] = useState(() => new Set((nodes.data ?? []).map((node) => node.id)));
  const arrived = (nodes.data ?? []).filter((node) => !before.has(node.id));
  return (
    <Stack gap="md">
      <div>
        <Text size="sm" mb={6}>
          Run this on the host, as root:
        </Text>
        <Code text={token.command} what="the command" />
        <Text size="xs" c="dimmed" mt={6}>
          It is shown only now. The token ends <Ago time={token.expires_at} />.
        </Text>
      </div>
      <div role="status">
        {arrived.length === 0 ? (
          <Group gap={10}>
            <span className="state tone-busy">waiting</span>
            <Text size="sm" c="dimmed">
              The node appears here as soon as its agent connects.
            </Text>
          </Group>
        ) : (
          <Stack gap={8}>
            {arrived.map((node) => (
              <Group key={node.id} gap={10}>
                <IconCircleCheck size={18} color="var(--good)" aria-hidden />
                <Link to="/nodes/$node" params={{ node: node.name }} onClick={close}>
                  {node.name}
                </Link>
                <State shown={nodeShown(node)} />
              </Group>
            ))}
          </Stack>
        )}
      </div>
      <Group justify="flex-end">
        <Button variant="default" onClick={close}>
          {arrived.length > 0 ? "Done" : "Close"}
        </Button>
      </Group>
    </Stack>
  );
}
