import { Tabs } from "@mantine/core";
import { getRouteApi, useNavigate } from "@tanstack/react-router";

import { useAccess } from "../shell/access";
import { Page } from "../ui/basics";
import { Accounts } from "./settings/Accounts";
import { Invites } from "./settings/Invites";
import { Own } from "./settings/Own";
import { Projects } from "./settings/Projects";
import { Registration } from "./settings/Registration";
import { Sessions } from "./settings/Sessions";
import { Tokens } from "./settings/Tokens";

const route = getRouteApi("/app/settings");

const TABS = [
  { id: "account", label: "Your account", admin: false, body: Own },
  { id: "sessions", label: "Sessions", admin: false, body: Sessions },
  { id: "tokens", label: "API tokens", admin: false, body: Tokens },
  { id: "projects", label: "Projects", admin: false, body: Projects },
  { id: "accounts", label: "Accounts", admin: true, body: Accounts },
  { id: "invites", label: "Invites", admin: true, body: Invites },
  { id: "registration", label: "Registration", admin: true, body: Registration },
];

export function Settings() {
  const { tab } = route.useSearch();
  const access = useAccess();
  const navigate = useNavigate();
  const shown = TABS.filter((one) => access.admin || !one.admin);
  const present = shown.find((one) => one.id === tab) ?? shown[0];
  if (!present) return null;
  const Body = present.body;
  return (
    <Page title="Settings">
      <Tabs
        value={present.id}
        onChange={(next) => void navigate({ to: "/settings", search: { tab: next ?? undefined } })}
        keepMounted={false}
      >
        <Tabs.List mb="md">
          {shown.map((one) => (
            <Tabs.Tab key={one.id} value={one.id}>
              {one.label}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        <Tabs.Panel value={present.id}>
          <Body />
        </Tabs.Panel>
      </Tabs>
    </Page>
  );
}
