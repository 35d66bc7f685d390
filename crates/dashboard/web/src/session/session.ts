/** The session of this browser: the token manager in its world, and the calls that begin and end one. */

import { create } from "zustand";

import type { components } from "../api/schema";
import { ApiError, problem, reached } from "../api/problem";
import { type Message, type Session, SignedOut, TokenManager, type World } from "./tokens";

type SessionView = components["schemas"]["SessionView"];

interface SessionState {
  /** `unknown` until the cookie has been tried. */
  status: "unknown" | "in" | "out";
  account: Session["account"] | null;
}

export const useSession = create<SessionState>(() => ({ status: "unknown", account: null }));

/** Reads the controller's answer; its clock may differ from ours. */
export function sessionOf(view: SessionView, date: string | null, now: number): Session {
  const theirs = date ? Date.parse(date) : Number.NaN;
  const skew = Number.isNaN(theirs) ? 0 : now - theirs;
  const { id, name, role } = view.account;
  return {
    accessToken: view.access_token,
    expiresAt: Date.parse(view.expires_at) + skew,
    account: { id, name, role },
  };
}

async function post(path: string, body: unknown, token?: string): Promise<Response> {
  const headers: Record<string, string> = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  return reached(() =>
    fetch(`/api/v1/auth/${path}`, { method: "POST", headers, body: JSON.stringify(body) }),
  );
}

async function sessionFrom(response: Response): Promise<Session> {
  if (!response.ok) throw await problem(response);
  return sessionOf((await response.json()) as SessionView, response.headers.get("date"), Date.now());
}

function browserWorld(): World {
  const channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("a67.session");
  return {
    refresh: async () => {
      try {
        return await sessionFrom(await post("refresh", { cookie: true }));
      } catch (error) {
        if (error instanceof ApiError && (error.status === 401 || error.status === 403)) {
          throw new SignedOut(error.message);
        }
        throw error;
      }
    },
    now: () => Date.now(),
    // Only secure contexts have locks. Without, the controller's ten seconds of grace do.
    exclusively: async (work) =>
      "locks" in navigator ? await navigator.locks.request("a67.session", work) : await work(),
    tell: (message) => channel?.postMessage(message),
    listen: (heard) =>
      channel?.addEventListener("message", (event: MessageEvent<Message>) => heard(event.data)),
  };
}

export const tokens = new TokenManager(browserWorld(), (session) => {
  useSession.setState({ status: session ? "in" : "out", account: session?.account ?? null });
});

/** Whether somebody was signed in here: without, there is no need to ask for a session. */
const HINT = "a67.signed-in";

function hint(signedIn: boolean): void {
  try {
    if (signedIn) localStorage.setItem(HINT, "1");
    else localStorage.removeItem(HINT);
  } catch {
    // Storage that is not allowed keeps nothing; the cookie is tried each time.
  }
}

function mayBeSignedIn(): boolean {
  try {
    return localStorage.getItem(HINT) !== null;
  } catch {
    return true;
  }
}

useSession.subscribe((state) => {
  if (state.status !== "unknown") hint(state.status === "in");
});

/** Finds out at the start whether there is a session. Throws where the controller is away. */
export async function resume(): Promise<void> {
  if (!mayBeSignedIn()) {
    useSession.setState({ status: "out", account: null });
    return;
  }
  try {
    await tokens.resume();
  } catch (error) {
    if (!(error instanceof SignedOut)) throw error;
  }
}

export async function signIn(name: string, password: string): Promise<void> {
  tokens.begin(await sessionFrom(await post("login", { name, password, cookie: true })));
}

export async function exchange(code: string): Promise<void> {
  tokens.begin(await sessionFrom(await post("github/exchange", { code, cookie: true })));
}

export async function register(name: string, password: string, invite: string | null): Promise<void> {
  const response = await post("register", invite ? { name, password, invite } : { name, password });
  if (!response.ok) throw await problem(response);
  await signIn(name, password);
}

export async function changePassword(current: string, next: string): Promise<void> {
  const body = { current_password: current, new_password: next, cookie: true };
  tokens.begin(await sessionFrom(await post("password", body, await tokens.token())));
}

/** Ends the session here and, where the controller can be reached, there. */
export async function signOut(everywhere = false): Promise<void> {
  try {
    const response = await post(everywhere ? "logout-all" : "logout", {}, await tokens.token());
    if (!response.ok && response.status !== 401) throw await problem(response);
  } finally {
    tokens.end();
  }
}
