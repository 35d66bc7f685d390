import { ActionIcon, Burger, Tooltip } from "@mantine/core";
import { useDisclosure, useHotkeys } from "@mantine/hooks";
import {
  IconActivity,
  IconBox,
  IconClipboardList,
  IconLayoutDashboard,
  IconListCheck,
  IconSearch,
  IconServer2,
  IconSettings,
  type TablerIcon,
} from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useRouterState } from "@tanstack/react-router";
import { lazy, Suspense, useEffect } from "react";

import * as read from "../api/queries";
import { deploymentShown, nodeShown } from "../domain/state";
import { useSession } from "../session/session";
import { useAccess } from "./access";
import { Banner } from "./Banner";
import { usePalette } from "./palette";

const Palette = lazy(() => import("./Palette"));
const AccountMenu = lazy(() => import("./AccountMenu"));

export function Shell() {
  const [opened, { toggle, close }] = useDisclosure(false);
  const palette = usePalette();
  const path = useRouterState({ select: (state) => state.location.pathname });
  useEffect(close, [path, close]);
  useHotkeys([["mod+K", () => palette.set(!palette.opened)]], []);
  useLeaveWhenSignedOut();
  return (
    <div className="shell">
      <a className="skip" href="#content">
        To the content
      </a>
      <header className="shell-top">
        <Burger opened={opened} onClick={toggle} size="sm" aria-label="Navigation" />
        <Brand />
        <ActionIcon
          ml="auto"
          variant="subtle"
          color="gray"
          aria-label="Search"
          onClick={() => palette.set(true)}
        >
          <IconSearch size={18} />
        </ActionIcon>
      </header>
      <aside className="shell-side" data-opened={opened || undefined}>
        <div className="shell-brand">
          <Brand />
        </div>
        <button type="button" className="search-button" onClick={() => palette.set(true)}>
          <IconSearch size={14} aria-hidden />
          Search
          <kbd>Ctrl K</kbd>
        </button>
        <Navigation />
        <div className="shell-account">
          <Suspense>
            <AccountMenu />
          </Suspense>
        </div>
      </aside>
      {opened && <div className="shell-veil" onClick={close} aria-hidden />}
      <main id="content">
        <Banner />
        <Outlet />
      </main>
      <Suspense>{palette.opened && <Palette />}</Suspense>
    </div>
  );
}

/** Signed out here or in another tab: the page that one was on is kept for later. */
function useLeaveWhenSignedOut() {
  const status = useSession((state) => state.status);
  const navigate = useNavigate();
  const href = useRouterState({ select: (state) => state.location.href });
  useEffect(() => {
    if (status === "out")
      void navigate({ to: "/sign-in", search: { to: href, why: "ended" }, replace: true });
    // Only the end of the session moves anybody, not each new page.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [status]);
}

function Brand() {
  return (
    <Link to="/" className="brand">
      <img src="/favicon.svg" alt="" />
      Automator67
    </Link>
  );
}

function Item(props: {
  to: string;
  icon: TablerIcon;
  label: string;
  count?: number | undefined;
  alarm?: string;
}) {
  const Icon = props.icon;
  return (
    <Link
      to={props.to}
      className="nav-item"
      activeOptions={{ exact: props.to === "/", includeSearch: false }}
    >
      <Icon size={17} stroke={1.6} aria-hidden />
      {props.label}
      <span className="count">
        {props.alarm && (
          <Tooltip label={props.alarm}>
            <span className="dot tone-bad" role="img" aria-label={props.alarm} />
          </Tooltip>
        )}
        {props.count}
      </span>
    </Link>
  );
}

function Navigation() {
  const access = useAccess();
  const nodes = useQuery({ ...read.nodes, enabled: access.fleet });
  const deployments = useQuery(read.deployments);
  const lost = nodes.data?.filter((node) => ["bad", "stale"].includes(nodeShown(node).tone)).length ?? 0;
  const astray = deployments.data?.filter((one) => deploymentShown(one).tone === "bad").length ?? 0;
  return (
    <nav className="shell-nav" aria-label="Main" style={{ marginTop: 14 }}>
      <Item to="/" icon={IconLayoutDashboard} label="Overview" />
      <Item
        to="/deployments"
        icon={IconBox}
        label="Deployments"
        count={deployments.data?.length}
        alarm={astray > 0 ? `${astray} not as declared` : ""}
      />
      {access.fleet && (
        <Item
          to="/nodes"
          icon={IconServer2}
          label="Nodes"
          count={nodes.data?.length}
          alarm={lost > 0 ? `${lost} not well` : ""}
        />
      )}
      <Item to="/operations" icon={IconListCheck} label="Operations" />
      <Item to="/events" icon={IconActivity} label="Events" />
      {access.admin && <Item to="/audit" icon={IconClipboardList} label="Audit" />}
      <Item to="/settings" icon={IconSettings} label="Settings" />
    </nav>
  );
}
