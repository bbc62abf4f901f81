// The REST API. Every call carries the access token, asks for a new one once when it is refused, and throws an ApiError
// whose message can be shown as it is.

import type { Problem } from "./contract";
import { SignedOut, type SessionKeeper } from "./session";

export class ApiError extends Error {
  /** status 0: the server could not be reached. */
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly fields: Record<string, string> = {},
  ) {
    super(message);
  }

  /** Whether the same call may do better later. */
  get transient(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

const unreachable = "Switchboard cannot be reached. Check your connection; what you typed is kept.";

/** One request without credentials. */
export async function request<T>(method: string, path: string, body?: unknown, token?: string, signal?: AbortSignal): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined && !(body instanceof FormData)) headers["Content-Type"] = "application/json";
  const payload = body === undefined || body instanceof FormData ? body : JSON.stringify(body);
  let response: Response;
  try {
    response = await fetch(path, { method, headers, body: payload, signal, credentials: "omit", cache: "no-store" });
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new ApiError(0, "unreachable", unreachable);
  }
  return answer<T>(response);
}

async function answer<T>(response: Response): Promise<T> {
  const json = /json/.test(response.headers.get("Content-Type") ?? "");
  if (response.ok) {
    if (response.status === 204) return undefined as T;
    try {
      return (json ? await response.json() : await response.blob()) as T;
    } catch {
      throw new ApiError(0, "unreachable", unreachable);
    }
  }
  const problem: Partial<Problem> = json ? await response.json().catch(() => ({})) : {};
  const fields = Object.fromEntries((problem.errors ?? []).map((e) => [e.field.replace(/^body\./, ""), e.message]));
  const detail = problem.detail || `The server answered ${response.status}. Try again; if it stays, tell your administrator.`;
  throw new ApiError(response.status, problem.code ?? "", detail, fields);
}

export class Api {
  constructor(private readonly session: SessionKeeper) {}

  get<T>(path: string, query: Record<string, string | number | undefined> = {}, signal?: AbortSignal): Promise<T> {
    const entries = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
    const search = new URLSearchParams(entries.map(([key, value]) => [key, String(value)])).toString();
    return this.call<T>("GET", search ? `${path}?${search}` : path, undefined, signal);
  }

  post<T>(path: string, body?: unknown): Promise<T> {
    return this.call<T>("POST", path, body);
  }

  patch<T>(path: string, body: unknown): Promise<T> {
    return this.call<T>("PATCH", path, body);
  }

  delete<T = void>(path: string): Promise<T> {
    return this.call<T>("DELETE", path);
  }

  /** Every page of a list that is known to be short. */
  async all<T>(path: string, query: Record<string, string> = {}): Promise<T[]> {
    const items: T[] = [];
    for (let cursor: string | undefined, page = 0; page < 50; page++) {
      const next = await this.get<{ items: T[]; nextCursor: string | null }>(path, { ...query, limit: 100, cursor });
      items.push(...next.items);
      if (!next.nextCursor) break;
      cursor = next.nextCursor;
    }
    return items;
  }

  private async call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const token = await this.session.token();
    try {
      return await request<T>(method, path, body, token, signal);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error;
    }
    return request<T>(method, path, body, await this.session.renewed(token), signal);
  }
}

/** The sentence to show for whatever was thrown; empty if there is nothing to tell. */
export function reason(error: unknown): string {
  if (error instanceof ApiError) return error.message;
  if (error instanceof SignedOut || (error instanceof DOMException && error.name === "AbortError")) return "";
  console.error(error);
  return "Something failed on this page. Reload it; if it stays, tell your administrator.";
}
