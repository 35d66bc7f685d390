/** The form over a draft: what most deployments need. The editor shows the rest. */

import {
  ActionIcon,
  Button,
  Group,
  NumberInput,
  Select,
  SimpleGrid,
  Stack,
  Switch,
  TextInput,
} from "@mantine/core";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";

import { ApiError } from "../api/problem";
import * as read from "../api/queries";
import { type Draft, joinCommand, splitCommand } from "../domain/draft";
import { bytes, parseBytes } from "../domain/format";
import { useAccess } from "../shell/access";
import { Panel } from "../ui/basics";

interface Props {
  draft: Draft;
  change: (draft: Draft) => void;
  error: unknown;
}

export function DeployForm({ draft, change, error }: Props) {
  const set = (part: Partial<Draft>) => change({ ...draft, ...part });
  const fault = (field: string) =>
    error instanceof ApiError ? error.fields.find((one) => one.field === field)?.message : undefined;
  return (
    <div className="split even">
      <div className="stack">
        <Panel title="What runs">
          <Stack gap="sm">
            <SimpleGrid cols={{ base: 1, xs: 2 }} spacing="sm">
              <TextInput
                label="Name"
                required
                withAsterisk={false}
                autoComplete="off"
                placeholder="web"
                value={draft.name}
                onChange={(event) => set({ name: event.currentTarget.value })}
                error={fault("name")}
              />
              <ProjectChoice draft={draft} set={set} error={fault("project")} />
            </SimpleGrid>
            <TextInput
              label="Image"
              required
              withAsterisk={false}
              autoComplete="off"
              placeholder="nginx:1.29"
              value={draft.image}
              onChange={(event) => set({ image: event.currentTarget.value })}
              error={fault("image")}
            />
            <CommandInput draft={draft} set={set} error={fault("command")} />
            <NumberInput
              label="Copies"
              min={0}
              max={1000}
              value={draft.replicas ?? 1}
              onChange={(value) => set({ replicas: value === "" ? undefined : Number(value) })}
              error={fault("replicas")}
            />
          </Stack>
        </Panel>
        <Panel title="Environment">
          <Pairs
            pairs={draft.env ?? {}}
            change={(env) => set({ env })}
            names={["Name", "Value"]}
            add="Add a variable"
            empty="Only what the image sets."
          />
        </Panel>
        <Panel title="Placement">
          <Pairs
            pairs={draft.constraints ?? {}}
            change={(constraints) => set({ constraints })}
            names={["Label", "Value"]}
            add="Add a constraint"
            empty="On any node that has room."
          />
        </Panel>
      </div>
      <div className="stack">
        <Panel title="Ports">
          <Ports draft={draft} set={set} />
        </Panel>
        <Limits draft={draft} set={set} fault={fault} />
        <Panel title="Health">
          <Probe draft={draft} set={set} fault={fault} />
        </Panel>
      </div>
    </div>
  );
}

interface Part {
  draft: Draft;
  set: (part: Partial<Draft>) => void;
  error?: string | undefined;
}

function ProjectChoice({ draft, set, error }: Part) {
  const projects = useQuery(read.projects);
  const access = useAccess();
  const names = (projects.data ?? []).map((project) => project.name).filter((name) => access.operates(name));
  return (
    <Select
      label="Project"
      data={names}
      value={draft.project ?? (names.includes("default") ? "default" : null)}
      onChange={(project) => set({ project: project ?? undefined })}
      allowDeselect={false}
      error={error}
    />
  );
}

function CommandInput({ draft, set, error }: Part) {
  const [text, setText] = useState(() => joinCommand(draft.command ?? []));
  const isOpen = splitCommand(text) === null;
  return (
    <TextInput
      label="Command"
      description="In place of the image's own."
      autoComplete="off"
      classNames={{ input: "mono" }}
      value={text}
      onChange={(event) => {
        setText(event.currentTarget.value);
        const words = splitCommand(event.currentTarget.value);
        if (words) set({ command: words.length > 0 ? words : undefined });
      }}
      error={isOpen ? "A quote is not closed." : error}
    />
  );
}

function Pairs(props: {
  pairs: Record<string, string>;
  change: (pairs: Record<string, string>) => void;
  names: [string, string];
  add: string;
  empty: string;
}) {
  const [rows, setRows] = useState(() => Object.entries(props.pairs));
  const put = (next: [string, string][]) => {
    setRows(next);
    props.change(Object.fromEntries(next.filter(([name]) => name !== "")));
  };
  return (
    <Rows
      empty={props.empty}
      add={props.add}
      onAdd={() => put([...rows, ["", ""]])}
      onRemove={(at) => put(rows.filter((_, index) => index !== at))}
      rows={rows.map(([name, value], at) => (
        <>
          <TextInput
            aria-label={props.names[0]}
            placeholder={props.names[0]}
            className="grow"
            classNames={{ input: "mono" }}
            value={name}
            onChange={(event) => put(rows.with(at, [event.currentTarget.value, value]))}
          />
          <TextInput
            aria-label={props.names[1]}
            placeholder={props.names[1]}
            className="grow"
            classNames={{ input: "mono" }}
            value={value}
            onChange={(event) => put(rows.with(at, [name, event.currentTarget.value]))}
          />
        </>
      ))}
    />
  );
}

function Rows(props: {
  rows: ReactNode[];
  empty: string;
  add: string;
  onAdd: () => void;
  onRemove: (at: number) => void;
}) {
  return (
    <Stack gap={8}>
      {props.rows.map((row, at) => (
        <Group key={at} gap={8} wrap="nowrap">
          {row}
          <ActionIcon variant="subtle" color="gray" aria-label="Remove" onClick={() => props.onRemove(at)}>
            <IconTrash size={15} />
          </ActionIcon>
        </Group>
      ))}
      <Group justify="space-between">
        <span className="dim" style={{ fontSize: "0.8125rem" }}>
          {props.rows.length === 0 && props.empty}
        </span>
        <Button
          size="compact-xs"
          variant="default"
          leftSection={<IconPlus size={13} />}
          onClick={props.onAdd}
        >
          {props.add}
        </Button>
      </Group>
    </Stack>
  );
}

function Ports({ draft, set }: Part) {
  const ports = draft.ports ?? [];
  return (
    <Rows
      empty="None is published."
      add="Add a port"
      onAdd={() => set({ ports: [...ports, { container_port: 80 }] })}
      onRemove={(at) => set({ ports: ports.filter((_, index) => index !== at) })}
      rows={ports.map((port, at) => (
        <>
          <NumberInput
            aria-label="Port in the container"
            placeholder="In the container"
            className="grow"
            min={1}
            max={65535}
            hideControls
            value={port.container_port}
            onChange={(value) => set({ ports: ports.with(at, { ...port, container_port: Number(value) }) })}
          />
          <NumberInput
            aria-label="Port of the host"
            placeholder="Host: any free one"
            className="grow"
            min={1}
            max={65535}
            hideControls
            value={port.host_port ?? ""}
            onChange={(value) =>
              set({
                ports: ports.with(at, {
                  ...port,
                  host_port: value === "" ? undefined : Number(value),
                }),
              })
            }
          />
          <Select
            aria-label="Transport"
            w={86}
            data={["tcp", "udp"]}
            value={port.transport ?? "tcp"}
            allowDeselect={false}
            onChange={(transport) =>
              set({ ports: ports.with(at, { ...port, transport: transport as "tcp" | "udp" }) })
            }
          />
        </>
      ))}
    />
  );
}

function SizeInput(props: {
  label: string;
  placeholder: string;
  value: number | null | undefined;
  set: (value: number | undefined) => void;
  error: string | undefined;
}) {
  const [text, setText] = useState(() => (props.value ? bytes(props.value) : ""));
  const isWrong = text.trim() !== "" && parseBytes(text) === null;
  return (
    <TextInput
      label={props.label}
      placeholder={props.placeholder}
      value={text}
      onChange={(event) => {
        setText(event.currentTarget.value);
        props.set(parseBytes(event.currentTarget.value) ?? undefined);
      }}
      error={isWrong ? "Such as 256 MiB." : props.error}
    />
  );
}

function Limits({ draft, set, fault }: Part & { fault: (field: string) => string | undefined }) {
  const { limits, reservation } = draft;
  return (
    <Panel title="Room for one copy">
      <SimpleGrid cols={2} spacing="sm">
        <NumberInput
          label="CPU limit, cores"
          placeholder="1"
          min={0.01}
          step={0.25}
          decimalScale={3}
          value={limits?.cpu_millis ? limits.cpu_millis / 1000 : ""}
          onChange={(value) =>
            set({
              limits: {
                ...limits,
                cpu_millis: value === "" ? undefined : Math.round(Number(value) * 1000),
              },
            })
          }
          error={fault("limits.cpu_millis")}
        />
        <SizeInput
          label="Memory limit"
          placeholder="512 MiB"
          value={limits?.memory_bytes}
          set={(memory_bytes) => set({ limits: { ...limits, memory_bytes } })}
          error={fault("limits.memory_bytes")}
        />
        <NumberInput
          label="CPU reserved, cores"
          placeholder="0.05"
          min={0}
          step={0.05}
          decimalScale={3}
          value={reservation?.cpu_millis ? reservation.cpu_millis / 1000 : ""}
          onChange={(value) =>
            set({
              reservation: {
                ...reservation,
                cpu_millis: value === "" ? undefined : Math.round(Number(value) * 1000),
              },
            })
          }
          error={fault("reservation.cpu_millis")}
        />
        <SizeInput
          label="Memory reserved"
          placeholder="16 MiB"
          value={reservation?.memory_bytes}
          set={(memory_bytes) => set({ reservation: { ...reservation, memory_bytes } })}
          error={fault("reservation.memory_bytes")}
        />
      </SimpleGrid>
    </Panel>
  );
}

type ProbeDraft = NonNullable<Draft["probes"]>[number];

/** The first probe. More of them, and all that they can, are the editor's. */
function Probe({ draft, set, fault }: Part & { fault: (field: string) => string | undefined }) {
  const [first, ...rest] = draft.probes ?? [];
  const put = (probe: ProbeDraft) => set({ probes: [probe, ...rest] });
  return (
    <Stack gap="sm">
      <Switch
        label="Ask the program whether it works"
        description="Without, a copy counts as healthy once it has run for a second."
        checked={first !== undefined}
        onChange={(event) =>
          set({
            probes: event.currentTarget.checked ? [{ type: "http", port: 80, path: "/" }] : undefined,
          })
        }
      />
      {first && (first.type === "http" || first.type === "tcp") && (
        <SimpleGrid cols={2} spacing="sm">
          <Select
            label="By"
            data={[
              { value: "http", label: "HTTP" },
              { value: "tcp", label: "TCP" },
            ]}
            value={first.type}
            allowDeselect={false}
            onChange={(type) => put({ type: type as "http" | "tcp", port: first.port ?? 80 })}
          />
          <NumberInput
            label="Port in the container"
            min={1}
            max={65535}
            hideControls
            value={first.port ?? ""}
            onChange={(value) => put({ ...first, port: value === "" ? undefined : Number(value) })}
            error={fault("probes[0].port")}
          />
          {first.type === "http" && (
            <TextInput
              label="Path"
              value={first.path ?? ""}
              placeholder="/"
              onChange={(event) => put({ ...first, path: event.currentTarget.value || undefined })}
              error={fault("probes[0].path")}
            />
          )}
          <Select
            label="When it fails"
            data={[
              { value: "liveness", label: "restart the copy" },
              { value: "readiness", label: "only say so" },
            ]}
            value={first.role ?? "liveness"}
            allowDeselect={false}
            onChange={(role) => put({ ...first, role: role as "liveness" | "readiness" })}
          />
        </SimpleGrid>
      )}
      {first && first.type !== "http" && first.type !== "tcp" && (
        <span className="dim" style={{ fontSize: "0.8125rem" }}>
          A probe of the kind {first.type} is written in the editor.
        </span>
      )}
    </Stack>
  );
}
