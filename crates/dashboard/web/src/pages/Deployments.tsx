import { Button } from "@mantine/core";
import { IconBox, IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import * as read from "../api/queries";
import type { Deployment } from "../api/types";
import { isPresent } from "../domain/fleet";
import { deploymentShown, instanceShown } from "../domain/state";
import { useAccess } from "../shell/access";
import { Ago, Curl, Empty, Loaded, Page, Panel, State } from "../ui/basics";
import { type Column, DataTable } from "../ui/DataTable";
import { matches, Search } from "./Nodes";

const COLUMNS: Column<Deployment>[] = [
  {
    id: "name",
    header: "Deployment",
    sort: (one) => one.name,
    className: "main-cell",
    cell: (one) => (
      <Link className="quiet" to="/deployments/$deployment" params={{ deployment: one.id }}>
        {one.name}
      </Link>
    ),
  },
  {
    id: "state",
    header: "State",
    sort: (one) => deploymentShown(one).label,
    cell: (one) => <State shown={deploymentShown(one)} />,
  },
  {
    id: "copies",
    header: "Copies",
    sort: (one) => one.spec.replicas,
    cell: (one) => <Copies deployment={one} />,
  },
  {
    id: "image",
    header: "Image",
    className: "wide",
    sort: (one) => one.spec.image,
    cell: (one) => <span className="mono">{one.spec.image}</span>,
  },
  {
    id: "project",
    header: "Project",
    className: "wide",
    sort: (one) => one.project,
    cell: (one) => one.project,
  },
  {
    id: "revision",
    header: "Revision",
    className: "num wide",
    sort: (one) => one.revision,
    cell: (one) => one.revision,
  },
  {
    id: "changed",
    header: "Changed",
    className: "wide",
    sort: (one) => one.updated_at,
    cell: (one) => (
      <span className="dim">
        <Ago time={one.updated_at} />
      </span>
    ),
  },
];

const CELLS_MAX = 8;

/** How many are healthy, and each as a cell while they are few. */
function Copies({ deployment }: { deployment: Deployment }) {
  const present = deployment.instances.filter(isPresent);
  return (
    <span style={{ display: "inline-flex", alignItems: "center", gap: 8 }}>
      <span className="nowrap">
        {deployment.healthy} / {deployment.spec.replicas}
      </span>
      <span style={{ display: "inline-flex", gap: 3 }} aria-hidden>
        {present.slice(0, CELLS_MAX).map((one) => (
          <i
            key={one.id}
            className={`cell tone-${instanceShown(one).tone}`}
            style={{ width: 9, height: 9, borderRadius: 3 }}
          />
        ))}
      </span>
    </span>
  );
}

function NewButton() {
  const access = useAccess();
  if (!access.operatesSomewhere) return null;
  return (
    <Button
      leftSection={<IconPlus size={16} />}
      renderRoot={(props: object) => <Link to="/deploy" {...props} />}
    >
      New deployment
    </Button>
  );
}

export function Deployments() {
  const deployments = useQuery(read.deployments);
  const [search, setSearch] = useState("");
  const count = deployments.data?.length;
  return (
    <Page
      title="Deployments"
      actions={
        <>
          <Curl path="/api/v1/deployments" />
          <NewButton />
        </>
      }
    >
      <Panel
        flush
        title={count === undefined ? "Deployments" : `${count} ${count === 1 ? "deployment" : "deployments"}`}
        actions={<Search value={search} set={setSearch} what="deployments" />}
      >
        <Loaded query={deployments}>
          {(all) =>
            all.length === 0 ? (
              <Empty icon={IconBox} title="Nothing is deployed" action={<NewButton />}>
                Name an image and how many copies you want; the fleet keeps them running, and starts them
                again when they end.
              </Empty>
            ) : (
              <DataTable
                label="Deployments"
                rows={all.filter((one) => matches(search, one.name, one.spec.image, one.project, one.state))}
                columns={COLUMNS}
                rowKey={(one) => one.id}
                sortedBy="name"
              />
            )
          }
        </Loaded>
      </Panel>
    </Page>
  );
}
