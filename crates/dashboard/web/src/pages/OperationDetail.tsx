import { Progress } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";

import * as read from "../api/queries";
import type { Operation } from "../api/types";
import { duration, shortId, words } from "../domain/format";
import { operationShown } from "../domain/state";
import { Ago, Curl, Facts, Loaded, Page, Panel, State } from "../ui/basics";
import { EventRow } from "../ui/lists";
import { useOperationEnd } from "./DeploymentDetail";

const route = getRouteApi("/app/operations/$operation");

export function OperationDetail() {
  const { operation: id } = route.useParams();
  const query = useQuery(read.operation(id));
  useOperationEnd(query.data);
  const one = query.data;
  const title = one ? `${words(one.kind)} of ${one.deployment}` : "Operation";
  return (
    <Page
      title={title}
      crumbs={<Link to="/operations">Operations</Link>}
      sub={one && <State shown={operationShown(one)} />}
      actions={<Curl path={`/api/v1/operations/${id}`} />}
    >
      <Loaded query={query}>{(operation) => <Body operation={operation} />}</Loaded>
    </Page>
  );
}

function Body({ operation }: { operation: Operation }) {
  const { total, done } = operation;
  const took = operation.finished_at
    ? duration(Date.parse(operation.finished_at) - Date.parse(operation.created_at))
    : null;
  return (
    <div className="split">
      <Panel title="What happened in its course" flush>
        {operation.state === "running" && (
          <div className="panel-body">
            <Progress value={total > 0 ? (100 * done) / total : 0} animated size="sm" aria-label="Progress" />
          </div>
        )}
        <ul className="rows">
          {(operation.log ?? []).map((event) => (
            <EventRow key={event.id} event={event} />
          ))}
        </ul>
      </Panel>
      <Panel title="Facts">
        <Facts
          items={[
            ["Where it stands", operation.message],
            ["Copies", `${done} of ${total} as asked for`],
            ["Asked for by", operation.actor],
            [
              "Deployment",
              operation.deployment_id ? (
                <Link to="/deployments/$deployment" params={{ deployment: operation.deployment_id }}>
                  {operation.deployment}
                </Link>
              ) : (
                `${operation.deployment} (deleted)`
              ),
            ],
            [
              "Instance",
              operation.instance_id ? (
                <Link className="mono" to="/instances/$instance" params={{ instance: operation.instance_id }}>
                  {shortId(operation.instance_id)}
                </Link>
              ) : null,
            ],
            ["Begun", <Ago time={operation.created_at} />],
            ["Took", took],
            ["Id", <span className="mono">{operation.id}</span>],
          ]}
        />
      </Panel>
    </div>
  );
}
