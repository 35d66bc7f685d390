import { ActionIcon, Button, Group, Modal, Select, Stack, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconFolders, IconPlus, IconTrash, IconUsers } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, take } from "../../api/client";
import * as read from "../../api/queries";
import type { Member, Project } from "../../api/types";
import { useAccess } from "../../shell/access";
import { Ago, Empty, Fault, Loaded, Panel } from "../../ui/basics";
import { ask } from "../../ui/ask";
import { type Column, DataTable } from "../../ui/DataTable";
import { say, sayFailed } from "../../ui/toast";

const MEMBER_ROLES = ["admin", "operator", "viewer"];

export function Projects() {
  const projects = useQuery(read.projects);
  const access = useAccess();
  const [opened, { open, close }] = useDisclosure(false);
  const [chosen, setChosen] = useState<string | null>(null);
  const project = projects.data?.find((one) => one.id === chosen) ?? projects.data?.[0];
  return (
    <div className="split even">
      <Panel
        title="Projects"
        flush
        actions={
          access.admin && (
            <Button size="xs" leftSection={<IconPlus size={14} />} onClick={open}>
              New project
            </Button>
          )
        }
      >
        <Loaded query={projects}>
          {(all) =>
            all.length === 0 ? (
              <Empty icon={IconFolders} title="You are in no project">
                An administrator of a project can make you a member of it.
              </Empty>
            ) : (
              <DataTable
                label="Projects"
                rows={all}
                columns={columns(access.admin, setChosen)}
                rowKey={(one) => one.id}
                sortedBy="name"
              />
            )
          }
        </Loaded>
        <Modal opened={opened} onClose={close} title="New project">
          <Make close={close} />
        </Modal>
      </Panel>
      {project && <Members key={project.id} project={project} />}
    </div>
  );
}

function remove(project: Project) {
  ask({
    title: `Delete the project ${project.name}?`,
    text: "Only a project without deployments can be deleted.",
    action: "Delete it",
    typed: project.name,
    danger: true,
    work: async () => {
      await take(api.DELETE("/api/v1/projects/{project}", { params: { path: { project: project.id } } }));
      say(`${project.name} is deleted`);
      await read.queryClient.invalidateQueries(read.projects);
    },
  });
}

const columns = (admin: boolean, choose: (id: string) => void): Column<Project>[] => [
  {
    id: "name",
    header: "Project",
    className: "main-cell",
    sort: (one) => one.name,
    cell: (one) => (
      <>
        {one.name} {one.is_default && <span className="chip">default</span>}
      </>
    ),
  },
  { id: "role", header: "Your role", cell: (one) => one.role },
  {
    id: "actions",
    header: "",
    className: "actions",
    cell: (one) => (
      <Group gap={4} justify="flex-end" wrap="nowrap">
        <Button
          size="compact-xs"
          variant="default"
          leftSection={<IconUsers size={13} />}
          onClick={() => choose(one.id)}
        >
          Members
        </Button>
        {admin && !one.is_default && (
          <ActionIcon
            variant="subtle"
            color="gray"
            aria-label={`Delete ${one.name}`}
            onClick={() => remove(one)}
          >
            <IconTrash size={15} />
          </ActionIcon>
        )}
      </Group>
    ),
  },
];

function Make({ close }: { close: () => void }) {
  const [name, setName] = useState("");
  const [error, setError] = useState<unknown>(null);
  const submit = async () => {
    try {
      await take(api.POST("/api/v1/projects", { body: { name } }));
      say(`${name} is made`);
      await read.queryClient.invalidateQueries(read.projects);
      close();
    } catch (caught) {
      setError(caught);
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
          label="Name"
          required
          withAsterisk={false}
          data-autofocus
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        {error !== null && <Fault error={error} />}
        <Group justify="flex-end">
          <Button type="submit">Make it</Button>
        </Group>
      </Stack>
    </form>
  );
}

async function setMember(project: Project, account: string, role: string): Promise<void> {
  const params = { path: { project: project.id, account } };
  await take(api.PUT("/api/v1/projects/{project}/members/{account}", { params, body: { role } }));
  say(`${account} is ${role} of ${project.name}`);
  await read.queryClient.invalidateQueries(read.members(project.id));
}

function Members({ project }: { project: Project }) {
  const members = useQuery(read.members(project.id));
  const mayChange = project.role === "admin";
  const [name, setName] = useState("");
  const [role, setRole] = useState<string | null>("operator");
  const add = () =>
    setMember(project, name, role ?? "operator")
      .then(() => setName(""))
      .catch((error: unknown) => sayFailed("Not added", error));
  return (
    <Panel title={`Members of ${project.name}`} flush>
      <Loaded query={members}>
        {(all) =>
          all.length === 0 ? (
            <Empty icon={IconUsers} title="No members of its own">
              Whoever has a role on the fleet has it here, too. Members get a role in this project alone.
            </Empty>
          ) : (
            <DataTable
              label={`Members of ${project.name}`}
              rows={all}
              columns={memberColumns(project, mayChange)}
              rowKey={(one) => one.account_id}
              sortedBy="account"
            />
          )
        }
      </Loaded>
      {mayChange && (
        <form
          className="panel-body"
          style={{ borderTop: "1px solid var(--line)" }}
          onSubmit={(event) => {
            event.preventDefault();
            void add();
          }}
        >
          <Group gap={8} align="flex-end">
            <TextInput
              size="xs"
              className="grow"
              label="Account"
              required
              withAsterisk={false}
              value={name}
              onChange={(event) => setName(event.currentTarget.value)}
            />
            <Select
              size="xs"
              w={120}
              label="Role"
              data={MEMBER_ROLES}
              value={role}
              onChange={setRole}
              allowDeselect={false}
            />
            <Button size="xs" type="submit">
              Add
            </Button>
          </Group>
        </form>
      )}
    </Panel>
  );
}

const memberColumns = (project: Project, mayChange: boolean): Column<Member>[] => [
  {
    id: "account",
    header: "Account",
    className: "main-cell",
    sort: (one) => one.account,
    cell: (one) => one.account,
  },
  {
    id: "role",
    header: "Role",
    cell: (one) =>
      mayChange ? (
        <Select
          size="xs"
          w={120}
          aria-label={`Role of ${one.account}`}
          data={MEMBER_ROLES}
          value={one.role}
          allowDeselect={false}
          onChange={(role) =>
            role &&
            void setMember(project, one.account, role).catch((error: unknown) =>
              sayFailed("Not changed", error),
            )
          }
        />
      ) : (
        one.role
      ),
  },
  { id: "since", header: "Since", className: "wide", cell: (one) => <Ago time={one.created_at} /> },
  {
    id: "actions",
    header: "",
    className: "actions",
    cell: (one) =>
      mayChange && (
        <Button
          size="compact-xs"
          variant="default"
          onClick={() =>
            ask({
              title: `Remove ${one.account} from ${project.name}?`,
              text: "It keeps what its role on the fleet gives.",
              action: "Remove it",
              danger: true,
              work: async () => {
                const params = { path: { project: project.id, account: one.account_id } };
                await take(api.DELETE("/api/v1/projects/{project}/members/{account}", { params }));
                await read.queryClient.invalidateQueries(read.members(project.id));
              },
            })
          }
        >
          Remove
        </Button>
      ),
  },
];
