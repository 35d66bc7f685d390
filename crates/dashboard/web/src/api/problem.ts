/** What can go wrong with a request, and whether the controller can be reached. */

import { create } from "zustand";

export interface FieldProblem {
  field: string;
  message: string;
}

/** The controller said no. */
export class ApiError extends Error {
  override name = "ApiError";
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestId: string | null,
    readonly fields: FieldProblem[],
    readonly retryAfterSeconds: number | null,
  ) {
    super(message);
  }
}

/** The controller, or what stands before it, did not answer. */
export class Unreachable extends Error {
  override name = "Unreachable";
}

interface ProblemBody {
  code?: string;
  detail?: string;
  request_id?: string | null;
  errors?: FieldProblem[];
}

/** Reads an answer that is an error, whoever wrote it. */
export async function problem(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => "");
  let body: ProblemBody = {};
  try {
    body = JSON.parse(text) as ProblemBody;
  } catch {
    // A proxy's page.
  }
  const retry = Number(response.headers.get("retry-after") ?? "");
  return new ApiError(
    response.status,
    body.code ?? `http_${response.status}`,
    body.detail ?? `The answer was ${response.status} ${response.statusText}.`.trim(),
    body.request_id ?? response.headers.get("x-request-id"),
    body.errors ?? [],
    retry > 0 ? retry : null,
  );
}

interface Connection {
  /** When the controller last answered, in milliseconds; null before it ever did. */
  answeredAt: number | null;
  /** Since when it has not; null while it does. */
  downSince: number | null;
}

export const useConnection = create<Connection>(() => ({ answeredAt: null, downSince: null }));

/** What proxies answer for a controller that is away. */
const AWAY = new Set([502, 503, 504]);

/** Carries out a request, and notes whether the controller answered. */
export async function reached(request: () => Promise<Response>): Promise<Response> {
  let response: Response;
  try {
    response = await request();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    noteDown();
    throw new Unreachable("The controller does not answer.");
  }
  if (AWAY.has(response.status)) noteDown();
  else useConnection.setState({ answeredAt: Date.now(), downSince: null });
  return response;
}

function noteDown(): void {
  useConnection.setState((state) => ({ downSince: state.downSince ?? Date.now() }));
}
