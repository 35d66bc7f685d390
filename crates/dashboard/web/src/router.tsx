/** Which page is under which path. Each page's code is loaded when it is first looked at. */

import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from "@tanstack/react-router";

import { resume, useSession } from "./session/session";
import { NotFound, Trouble } from "./shell/Trouble";
import { Waiting } from "./ui/basics";

const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);

const root = createRootRoute({
  component: Outlet,
  notFoundComponent: NotFound,
  // Once, before the first page: is there a session to go on with?
  beforeLoad: async () => {
    if (useSession.getState().status === "unknown") await resume();
  },
});

/** Only a path of ours to go back to, never another site. */
export function returnPath(wanted: string | undefined): string {
  return wanted && /^\/(?![/\\])/.test(wanted) && !wanted.startsWith("/sign-in") ? wanted : "/";
}

const signIn = createRoute({
  getParentRoute: () => root,
  path: "/sign-in",
  validateSearch: (
    search: Record<string, unknown>,
  ): { to?: string | undefined; why?: string | undefined } => ({
    to: text(search.to),
    why: text(search.why),
  }),
  beforeLoad: ({ search }) => {
    if (useSession.getState().status === "in") redirect({ href: returnPath(search.to), throw: true });
  },
  component: lazyRouteComponent(() => import("./pages/SignIn"), "SignIn"),
});

const register = createRoute({
  getParentRoute: () => root,
  path: "/register",
  component: lazyRouteComponent(() => import("./pages/Register"), "Register"),
});

const app = createRoute({
  getParentRoute: () => root,
  id: "app",
  beforeLoad: ({ location }) => {
    // GitHub sends the browser back with a code; the page that it wanted comes after.
    const code = new URLSearchParams(location.searchStr).get("code");
    if (code?.startsWith("a67c_"))
      redirect({ to: "/welcome", search: { code, to: cleanPath(location) }, throw: true });
    if (useSession.getState().status !== "in") {
      redirect({ to: "/sign-in", search: { to: location.href, why: undefined }, throw: true });
    }
  },
  component: lazyRouteComponent(() => import("./shell/Shell"), "Shell"),
});

function cleanPath(location: { pathname: string; searchStr: string }): string {
  const search = new URLSearchParams(location.searchStr);
  search.delete("code");
  return location.pathname + (search.size > 0 ? `?${search.toString()}` : "");
}

const welcome = createRoute({
  getParentRoute: () => root,
  path: "/welcome",
  validateSearch: (search: Record<string, unknown>) => ({ code: text(search.code), to: text(search.to) }),
  component: lazyRouteComponent(() => import("./pages/Welcome"), "Welcome"),
});

const overview = createRoute({
  getParentRoute: () => app,
  path: "/",
  component: lazyRouteComponent(() => import("./pages/Overview"), "Overview"),
});
const nodes = createRoute({
  getParentRoute: () => app,
  path: "/nodes",
  component: lazyRouteComponent(() => import("./pages/Nodes"), "Nodes"),
});
const node = createRoute({
  getParentRoute: () => app,
  path: "/nodes/$node",
  component: lazyRouteComponent(() => import("./pages/NodeDetail"), "NodeDetail"),
});
const deployments = createRoute({
  getParentRoute: () => app,
  path: "/deployments",
  component: lazyRouteComponent(() => import("./pages/Deployments"), "Deployments"),
});
const deploy = createRoute({
  getParentRoute: () => app,
  path: "/deploy",
  component: lazyRouteComponent(() => import("./pages/Deploy"), "Deploy"),
});
const deployment = createRoute({
  getParentRoute: () => app,
  path: "/deployments/$deployment",
  component: lazyRouteComponent(() => import("./pages/DeploymentDetail"), "DeploymentDetail"),
});
const instance = createRoute({
  getParentRoute: () => app,
  path: "/instances/$instance",
  validateSearch: (search: Record<string, unknown>): { tab?: string | undefined } => ({
    tab: text(search.tab),
  }),
  component: lazyRouteComponent(() => import("./pages/InstanceDetail"), "InstanceDetail"),
});
const operations = createRoute({
  getParentRoute: () => app,
  path: "/operations",
  component: lazyRouteComponent(() => import("./pages/Operations"), "Operations"),
});
const operation = createRoute({
  getParentRoute: () => app,
  path: "/operations/$operation",
  component: lazyRouteComponent(() => import("./pages/OperationDetail"), "OperationDetail"),
});
const events = createRoute({
  getParentRoute: () => app,
  path: "/events",
  component: lazyRouteComponent(() => import("./pages/Events"), "Events"),
});
const audit = createRoute({
  getParentRoute: () => app,
  path: "/audit",
  component: lazyRouteComponent(() => import("./pages/AuditLog"), "AuditLog"),
});
const settings = createRoute({
  getParentRoute: () => app,
  path: "/settings",
  validateSearch: (search: Record<string, unknown>): { tab?: string | undefined } => ({
    tab: text(search.tab),
  }),
  component: lazyRouteComponent(() => import("./pages/Settings"), "Settings"),
});

export const router = createRouter({
  routeTree: root.addChildren([
    signIn,
    register,
    welcome,
    app.addChildren([
      overview,
      nodes,
      node,
      deployments,
      deploy,
      deployment,
      instance,
      operations,
      operation,
      events,
      audit,
      settings,
    ]),
  ]),
  defaultPreload: "intent",
  defaultPendingComponent: Waiting,
  defaultErrorComponent: Trouble,
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
