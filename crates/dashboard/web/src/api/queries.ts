/**
 * What the pages read, under one key each. Nothing is asked for more often than each ten
 * seconds; what changes by a click here is asked for at once (`refreshAll`).
 */

import { QueryClient, infiniteQueryOptions, queryOptions } from "@tanstack/react-query";

import { reached, problem } from "./problem";
import { api, isWorthARetry, take } from "./client";
import type { components } from "./schema";

export const POLL_MS = 10_000;
/** Most items that the fleet's lists are read in; beyond, they are cut, and say so. */
const FLEET_PAGES_MAX = 20;

export const queryClient = new QueryClient({
  defaultOptions: {
    // A browser that thinks it is offline may still reach a controller on its own host or network.
    queries: { networkMode: "always", staleTime: 2_000, retry: isWorthARetry, refetchOnWindowFocus: true },
    mutations: { networkMode: "always", retry: false },
  },
});

/** Reads again whatever is shown. */
export function refreshAll(): Promise<void> {
  return queryClient.invalidateQueries();
}

interface Page<T> {
  items: T[];
  next_cursor?: string | null;
}

async function whole<T>(read: (cursor: string | undefined) => Promise<Page<T>>): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < FLEET_PAGES_MAX; page += 1) {
    const answer = await read(cursor);
    items.push(...answer.items);
    if (!answer.next_cursor) break;
    cursor = answer.next_cursor;
  }
  return items;
}

const live = { refetchInterval: POLL_MS } as const;

export const nodes = queryOptions({
  ...live,
  queryKey: ["nodes"],
  queryFn: ({ signal }) =>
    whole((cursor) => take(api.GET("/api/v1/nodes", { params: { query: { limit: 500, cursor } }, signal }))),
});

export const node = (name: string) =>
  queryOptions({
    ...live,
    queryKey: ["nodes", name],
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/nodes/{node}", { params: { path: { node: name } }, signal })),
  });

export const nodeMetrics = (name: string, seconds: number) =>
  queryOptions({
    ...live,
    queryKey: ["nodes", name, "metrics", seconds],
    queryFn: ({ signal }) =>
      take(
        api.GET("/api/v1/nodes/{node}/metrics", {
          params: { path: { node: name }, query: { seconds } },
          signal,
        }),
      ),
  });

export const deployments = queryOptions({
  ...live,
  queryKey: ["deployments"],
  queryFn: ({ signal }) =>
    whole((cursor) =>
      take(api.GET("/api/v1/deployments", { params: { query: { limit: 500, cursor } }, signal })),
    ),
});

export const deployment = (name: string) =>
  queryOptions({
    ...live,
    queryKey: ["deployments", name],
    queryFn: ({ signal }) =>
      take(
        api.GET("/api/v1/deployments/{deployment}", {
          params: { path: { deployment: name } },
          signal,
        }),
      ),
  });

export const instance = (id: string) =>
  queryOptions({
    ...live,
    queryKey: ["instances", id],
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/instances/{instance}", { params: { path: { instance: id } }, signal })),
  });

export const instanceMetrics = (id: string, seconds: number) =>
  queryOptions({
    ...live,
    queryKey: ["instances", id, "metrics", seconds],
    queryFn: ({ signal }) =>
      take(
        api.GET("/api/v1/instances/{instance}/metrics", {
          params: { path: { instance: id }, query: { seconds } },
          signal,
        }),
      ),
  });

export const deaths = (id: string) =>
  queryOptions({
    ...live,
    queryKey: ["instances", id, "deaths"],
    queryFn: ({ signal }) =>
      take(
        api.GET("/api/v1/instances/{instance}/deaths", {
          params: { path: { instance: id } },
          signal,
        }),
      ),
  });

export const death = (id: string, attempt: number) =>
  queryOptions({
    queryKey: ["instances", id, "deaths", attempt],
    queryFn: ({ signal }) =>
      take(
        api.GET("/api/v1/instances/{instance}/deaths/{attempt}", {
          params: { path: { instance: id, attempt } },
          signal,
        }),
      ),
  });

/** The newest are read again and again; who has gone back to older ones reads in peace. */
const liveWhileShort = {
  refetchInterval: (query: { state: { data?: { pages: unknown[] } | undefined } }) =>
    (query.state.data?.pages.length ?? 0) > 1 ? false : POLL_MS,
} as const;

const nextCursor = (page: Page<unknown>) => page.next_cursor ?? undefined;

export const operations = infiniteQueryOptions({
  ...liveWhileShort,
  queryKey: ["operations"],
  initialPageParam: undefined as string | undefined,
  queryFn: ({ pageParam, signal }) =>
    take(api.GET("/api/v1/operations", { params: { query: { limit: 50, cursor: pageParam } }, signal })),
  getNextPageParam: nextCursor,
});

export const operation = (id: string) =>
  queryOptions({
    ...live,
    queryKey: ["operations", id],
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/operations/{operation}", { params: { path: { operation: id } }, signal })),
  });

export interface EventFilter {
  node?: string;
  deployment?: string;
  instance?: string;
  operation?: string;
}

export const events = (filter: EventFilter = {}) =>
  infiniteQueryOptions({
    ...liveWhileShort,
    queryKey: ["events", filter],
    initialPageParam: undefined as string | undefined,
    queryFn: ({ pageParam, signal }) =>
      take(
        api.GET("/api/v1/events", {
          params: { query: { ...filter, limit: 50, cursor: pageParam } },
          signal,
        }),
      ),
    getNextPageParam: nextCursor,
  });

export interface AuditFilter {
  actor?: string;
  action?: string;
  subject?: string;
  outcome?: string;
}

export const audit = (filter: AuditFilter) =>
  infiniteQueryOptions({
    queryKey: ["audit", filter],
    initialPageParam: undefined as string | undefined,
    queryFn: ({ pageParam, signal }) =>
      take(
        api.GET("/api/v1/audit", {
          params: { query: { ...filter, limit: 50, cursor: pageParam } },
          signal,
        }),
      ),
    getNextPageParam: nextCursor,
  });

export const me = queryOptions({
  queryKey: ["me"],
  staleTime: 60_000,
  queryFn: ({ signal }) => take(api.GET("/api/v1/auth/me", { signal })),
});

export const sessions = queryOptions({
  queryKey: ["sessions"],
  queryFn: ({ signal }) =>
    whole((cursor) =>
      take(api.GET("/api/v1/auth/sessions", { params: { query: { limit: 500, cursor } }, signal })),
    ),
});

export const apiTokens = queryOptions({
  queryKey: ["api-tokens"],
  queryFn: ({ signal }) =>
    whole((cursor) =>
      take(api.GET("/api/v1/api-tokens", { params: { query: { limit: 500, cursor } }, signal })),
    ),
});

export const accounts = queryOptions({
  queryKey: ["accounts"],
  queryFn: ({ signal }) =>
    whole((cursor) =>
      take(api.GET("/api/v1/accounts", { params: { query: { limit: 500, cursor } }, signal })),
    ),
});

export const invites = queryOptions({
  queryKey: ["invites"],
  queryFn: ({ signal }) =>
    whole((cursor) =>
      take(api.GET("/api/v1/invites", { params: { query: { limit: 500, cursor } }, signal })),
    ),
});

export const projects = queryOptions({
  queryKey: ["projects"],
  queryFn: ({ signal }) =>
    whole((cursor) =>
      take(api.GET("/api/v1/projects", { params: { query: { limit: 500, cursor } }, signal })),
    ),
});

export const members = (project: string) =>
  queryOptions({
    queryKey: ["projects", project, "members"],
    queryFn: ({ signal }) =>
      whole((cursor) =>
        take(
          api.GET("/api/v1/projects/{project}/members", {
            params: { path: { project }, query: { limit: 500, cursor } },
            signal,
          }),
        ),
      ),
  });

export const settings = queryOptions({
  queryKey: ["settings"],
  queryFn: ({ signal }) => take(api.GET("/api/v1/settings", { signal })),
});

/** How one may sign in; needs no session. */
export const methods = queryOptions({
  queryKey: ["methods"],
  staleTime: 60_000,
  queryFn: async ({ signal }): Promise<components["schemas"]["MethodsView"]> => {
    const response = await reached(() => fetch("/api/v1/auth/methods", { signal }));
    if (!response.ok) throw await problem(response);
    return (await response.json()) as components["schemas"]["MethodsView"];
  },
});
