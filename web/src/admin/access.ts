// The management key, which is another one than the playground's: a key that manages can't infer.
// It lives in this tab's session only. Where the server asks for none, the tab's own goes along.

import { signal } from "@preact/signals";
import { request } from "../api/get";
import { apiKey } from "../api/key";

const NAME = "outrider.management-key";

export const managementKey = signal(sessionStorage.getItem(NAME) ?? "");
/** Whether the dialog for it is open. */
export const asksForKey = signal(false);

export function setManagementKey(key: string): void {
  managementKey.value = key.trim();
  if (managementKey.value) sessionStorage.setItem(NAME, managementKey.value);
  else sessionStorage.removeItem(NAME);
}

export function keyInUse(): string {
  return managementKey.value || apiKey.value;
}

/** Ask the server as who manages it; what goes wrong is a `ProblemError`. */
export function manage<T>(method: "GET" | "POST" | "PATCH" | "DELETE", path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  return request<T>(method, path, { body, signal, key: keyInUse() });
}

/** Give a text, such as a table for a spreadsheet. */
export async function manageText(path: string): Promise<string> {
  const key = keyInUse();
  const reply = await fetch(path, { headers: key ? { authorization: `Bearer ${key}` } : {} });
  if (!reply.ok) throw new Error(`HTTP status ${reply.status}`);
  return reply.text();
}
