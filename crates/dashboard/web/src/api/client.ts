/** The typed client of the API: every request has a good token, and is tried once more with another. */

import createClient from "openapi-fetch";

import { tokens } from "../session/session";
import type { TokenManager } from "../session/tokens";
import { ApiError, type FieldProblem, problem, reached } from "./problem";
import type { paths } from "./schema";

/** `fetch` with the session's token. */
export function authorised(
  source: Pick<TokenManager, "token" | "tokenAfter">,
  base: typeof fetch,
): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const token = await source.token();
    const response = await send(request.clone(), token, base);
    if (response.status !== 401) return response;
    // One more try with a token that is surely new. A session that has ended throws here.
    return send(request, await source.tokenAfter(token), base);
  };
}

function send(request: Request, token: string, base: typeof fetch): Promise<Response> {
  request.headers.set("Authorization", `Bearer ${token}`);
  return reached(() => base(request));
}

export const authorisedFetch = authorised(tokens, (...args) => fetch(...args));

export const api = createClient<paths>({ baseUrl: location.origin, fetch: authorisedFetch });

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The answer's content; throws `ApiError` for a problem. */
export async function take<T>(request: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await request;
  if (response.ok) return data as T;
  const body = (error ?? {}) as {
    code?: string;
    detail?: string;
    request_id?: string;
    errors?: FieldProblem[];
  };
  // The client has read the body already.
  throw await problem(
    new Response(JSON.stringify(body), {
      status: response.status,
      statusText: response.statusText,
      headers: response.headers,
    }),
  );
}

/** Whether asking again may help. */
export function isWorthARetry(failures: number, error: unknown): boolean {
  return failures < 2 && !(error instanceof ApiError && error.status < 500);
}
