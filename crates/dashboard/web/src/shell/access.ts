/** What the account may do, so that nothing is offered that will be refused. The controller decides. */

import { useQuery } from "@tanstack/react-query";

import * as read from "../api/queries";
import type { Me } from "../api/types";
import { useSession } from "../session/session";

export interface Access {
  /** Sees nodes. */
  fleet: boolean;
  admin: boolean;
  /** May change what runs in a project. */
  operates: (project: string) => boolean;
  /** May change what runs in some project. */
  operatesSomewhere: boolean;
}

const RANK: Record<string, number> = { none: 0, viewer: 1, operator: 2, admin: 3 };

export function accessOf(
  role: string,
  memberships: Pick<Me["memberships"][number], "project" | "role">[],
): Access {
  const rank = RANK[role] ?? 0;
  const inProject = (project: string) =>
    Math.max(rank, ...memberships.filter((one) => one.project === project).map((one) => RANK[one.role] ?? 0));
  return {
    fleet: rank >= 1,
    admin: rank >= 3,
    operates: (project) => inProject(project) >= 2,
    operatesSomewhere: rank >= 2 || memberships.some((one) => (RANK[one.role] ?? 0) >= 2),
  };
}

export function useAccess(): Access {
  const role = useSession((state) => state.account?.role ?? "none");
  const me = useQuery(read.me);
  return accessOf(me.data?.role ?? role, me.data?.memberships ?? []);
}
