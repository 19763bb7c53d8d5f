// JSON from and to this server, with the key of the tab. Whatever goes wrong is a `ProblemError`
// with words for a person; an answer that isn't JSON counts as a failure of the server.

import { apiKey } from "./key";
import { OFFLINE, ProblemError, problemOf } from "./problems";

export function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  return request<T>("GET", path, { signal });
}

export function sendJson<T>(method: "POST" | "PATCH" | "PUT" | "DELETE", path: string, body?: unknown): Promise<T> {
  return request<T>(method, path, { body });
}

interface Options {
  body?: unknown;
  signal?: AbortSignal;
  key?: string; // instead of the tab's
}

export async function request<T>(method: string, path: string, { body, signal, key = apiKey.value }: Options): Promise<T> {
  const headers: Record<string, string> = { accept: "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let reply: Response;
  try {
    reply = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : wellFormed(JSON.stringify(body)) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ProblemError(OFFLINE);
  }
  const answer = await read(reply, signal);
  if (reply.ok) return answer as T;
  throw new ProblemError(problemOf(reply.status, (answer as { error?: unknown } | null)?.error));
}

/** Replace halves of characters that were cut apart: no server reads JSON with them. */
export function wellFormed(json: string): string {
  return json.replace(/((?<!\\)(?:\\\\)*)\\ud[89a-f][0-9a-f]{2}/g, "$1\\ufffd");
}

async function read(reply: Response, signal?: AbortSignal): Promise<unknown> {
  try {
    const text = await reply.text();
    return text === "" ? null : JSON.parse(text);
  } catch (error) {
    if (signal?.aborted) throw error;
    if (!reply.ok) return null; // its status says enough
    throw new ProblemError({ kind: "server", title: "The server's answer couldn't be read", detail: `${reply.url} gave no JSON.` });
  }
}
