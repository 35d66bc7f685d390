import { Button, Progress, Tabs } from "@mantine/core";
import { IconBox, IconTrash } from "@tabler/icons-react";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { useEffect } from "react";

import { api, take } from "../api/client";
import * as read from "../api/queries";
import type { Deployment, Operation } from "../api/types";
import { isPresent } from "../domain/fleet";
import { words } from "../domain/format";
import { deploymentShown } from "../domain/state";
import { useAccess } from "../shell/access";
import { Ago, Chips, Curl, Empty, Facts, Loaded, Page, Panel, State } from "../ui/basics";
import { ask } from "../ui/ask";
import { EventList, InstanceTable, OperationList } from "../ui/lists";
import { say } from "../ui/toast";
import { specFacts, YamlOf } from "./spec";

const route = getRouteApi("/app/deployments/$deployment");

/** Longest that the controller is asked to wait for an operation's end. */
const WAIT_SECONDS = 20;
const WAIT_AGAIN_MS = 1_000;

export function DeploymentDetail() {
  const { deployment: key } = route.useParams();
  const access = useAccess();
  const query = useQuery(read.deployment(key));
  const one = query.data;
  return (
    <Page
      name={one?.name ?? "Deployment"}
      title={one?.name ?? "Deployment"}
      crumbs={<Link to="/deployments">Deployments</Link>}
      sub={one && <Standing deployment={one} />}
      actions={
        one && (
          <>
            <Curl path={`/api/v1/deployments/${one.id}`} />
            {access.operates(one.project) && <DeleteButton deployment={one} />}
          </>
        )
      }
    >
      <Loaded query={query}>{(deployment) => <Body deployment={deployment} />}</Loaded>
    </Page>
  );
}

function Standing({ deployment }: { deployment: Deployment }) {
  const shown = deploymentShown(deployment);
  return (
    <span style={{ display: "inline-flex", gap: 10, alignItems: "center", flexWrap: "wrap" }}>
      <State shown={shown} />
      <span>
        {deployment.healthy} of {deployment.spec.replicas} healthy{shown.why ? `. ${shown.why}` : ""}
      </span>
    </span>
  );
}

function DeleteButton({ deployment }: { deployment: Deployment }) {
  const navigate = useNavigate();
  const copies = deployment.instances.filter(isPresent).length;
  const remove = async () => {
    await take(
      api.DELETE("/api/v1/deployments/{deployment}", {
        params: { path: { deployment: deployment.id } },
      }),
    );
    say(`${deployment.name} is being deleted`, "Its containers are stopped and removed.");
    await read.refreshAll();
    await navigate({ to: "/deployments" });
  };
  return (
    <Button
      variant="default"
      leftSection={<IconTrash size={15} />}
      disabled={deployment.deleting}
      onClick={() =>
        ask({
          title: `Delete ${deployment.name}?`,
          text: (
            <>
              Its {copies === 1 ? "container is" : `${copies} containers are`} stopped and removed. Volumes
              with a name stay on their nodes. This cannot be undone.
            </>
          ),
          action: "Delete it",
          typed: deployment.name,
          danger: true,
          work: remove,
        })
      }
    >
      Delete
    </Button>
  );
}

function Body({ deployment }: { deployment: Deployment }) {
  const access = useAccess();
  const instances = deployment.instances.filter(isPresent);
  return (
    <div className="split">
      <div className="stack">
        <UnderWay deployment={deployment} />
        <Pending deployment={deployment} />
        <Panel title="Instances" flush>
          {instances.length === 0 ? (
            <Empty icon={IconBox} title="No instances">
              {deployment.spec.replicas === 0
                ? "It is declared with 0 copies."
                : "They are placed as soon as a node has room."}
            </Empty>
          ) : (
            <InstanceTable
              label={`Instances of ${deployment.name}`}
              instances={instances}
              without="deployment"
              operates={access.operates(deployment.project)}
            />
          )}
        </Panel>
        <section className="panel">
          <Tabs defaultValue="events" keepMounted={false}>
            <Tabs.List px={8}>
              <Tabs.Tab value="events">Events</Tabs.Tab>
              <Tabs.Tab value="operations">Operations</Tabs.Tab>
              <Tabs.Tab value="spec">As YAML</Tabs.Tab>
            </Tabs.List>
            <Tabs.Panel value="events">
              <EventList filter={{ deployment: deployment.id }} />
            </Tabs.Panel>
            <Tabs.Panel value="operations">
              <OperationList of={(operation) => operation.deployment_id === deployment.id} />
            </Tabs.Panel>
            <Tabs.Panel value="spec" p="md">
              <YamlOf
                value={{
                  name: deployment.name,
                  project: deployment.project,
                  ...deployment.spec,
                }}
              />
            </Tabs.Panel>
          </Tabs>
        </section>
      </div>
      <div className="stack">
        <Panel title="Declared">
          <Facts
            items={[
              ["Project", deployment.project],
              ["Revision", deployment.revision],
              ...specFacts(deployment.spec),
              ["Constraints", <Chips of={deployment.spec.constraints} />],
              ["Created", <Ago time={deployment.created_at} />],
              ["Changed", <Ago time={deployment.updated_at} />],
              ["Id", <span className="mono">{deployment.id}</span>],
            ]}
          />
        </Panel>
      </div>
    </div>
  );
}

/** What is being done to it, and reads everything again once that has ended. */
function UnderWay({ deployment }: { deployment: Deployment }) {
  const query = useInfiniteQuery(read.operations);
  const running = query.data?.pages
    .flatMap((page) => page.items)
    .find((one) => one.state === "running" && one.deployment_id === deployment.id);
  useOperationEnd(running);
  if (!running) return null;
  return (
    <Panel
      title={
        <Link className="quiet" to="/operations/$operation" params={{ operation: running.id }}>
          {words(running.kind)}
        </Link>
      }
      actions={
        <span className="dim" style={{ fontSize: "0.78rem", paddingRight: 8 }}>
          {running.done} of {running.total}, begun <Ago time={running.created_at} />
        </span>
      }
    >
      <Progress
        value={running.total > 0 ? Math.max(4, (100 * running.done) / running.total) : 100}
        animated
        size="sm"
        aria-label="Progress"
      />
      <div className="dim" style={{ marginTop: 8, fontSize: "0.8125rem" }}>
        {running.message}
      </div>
    </Panel>
  );
}

/** Waits at the controller for an operation's end, so that nobody has to poll for it. */
export function useOperationEnd(operation: Operation | undefined): void {
  const id = operation?.state === "running" ? operation.id : undefined;
  useEffect(() => {
    if (!id) return;
    const abort = new AbortController();
    const params = { path: { operation: id }, query: { wait_seconds: WAIT_SECONDS } };
    const wait = async () => {
      while (!abort.signal.aborted) {
        const now = await take(api.GET("/api/v1/operations/{operation}", { params, signal: abort.signal }));
        if (now.state === "done") {
          await read.refreshAll();
          return;
        }
        // A controller that stops answers at once.
        await new Promise((resolve) => setTimeout(resolve, WAIT_AGAIN_MS));
      }
    };
    // Where it cannot be waited for, the next look tells.
    wait().catch(() => undefined);
    return () => abort.abort();
  }, [id]);
}

/** Why copies wait for a node, node by node. */
function Pending({ deployment }: { deployment: Deployment }) {
  const { pending } = deployment;
  if (!pending || pending.lacking === 0) return null;
  return (
    <Panel title={`No node for ${pending.lacking === 1 ? "one copy" : `${pending.lacking} copies`}`} flush>
      {pending.rejected.length === 0 ? (
        <div className="panel-body dim" style={{ fontSize: "0.8125rem" }}>
          There is no node that could take it. <Link to="/nodes">Add one</Link>, and it is placed by itself.
        </div>
      ) : (
        <ul className="rows">
          {pending.rejected.map((rejection) => (
            <li key={rejection.node}>
              <Link className="quiet" to="/nodes/$node" params={{ node: rejection.node }}>
                {rejection.node}
              </Link>
              <span className="dim event-text">{rejection.reason}</span>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}
