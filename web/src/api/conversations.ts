// The conversations that the server keeps for the key of this tab: docs/conversations.md.

import { readConversation } from "../chat/share";
import type { Conversation } from "../chat/types";
import { getJson, sendJson } from "./get";
import { type Problem, ProblemError } from "./problems";

const PATH = "/outrider/v1/conversations";

export interface Row {
  id: string;
  version: number;
  title: string;
  created_ms: number;
  updated_ms: number;
  num_threads: number;
}

export interface Page {
  data: Row[];
  next: string | null;
  is_kept: boolean; // false: none are kept for this key
}

export interface Kept {
  conversation: Conversation;
  version: number;
}

export function listKept(after: string | null, words = "", signal?: AbortSignal): Promise<Page> {
  const query = new URLSearchParams({ ...(after ? { after } : {}), ...(words ? { q: words } : {}) });
  return getJson<Page>(`${PATH}?${query}`, signal);
}

export async function readKept(id: string): Promise<Kept> {
  const row = await getJson<Row & { threads: unknown }>(`${PATH}/${id}`);
  const conversation = readConversation({ ...row, created: row.created_ms, updated: row.updated_ms });
  return { conversation, version: row.version };
}

/** Write a conversation that was made from a version, 0 for a new one; gives the next version. */
export async function writeKept({ id, title, created, updated, threads }: Conversation, version: number): Promise<number> {
  const body = { version, title: title.slice(0, 200), created_ms: Math.round(created), updated_ms: Math.round(updated), threads };
  return (await sendJson<Row>("PUT", `${PATH}/${id}`, body)).version;
}

export async function deleteKept(id: string): Promise<void> {
  try {
    await sendJson("DELETE", `${PATH}/${id}`);
  } catch (error) {
    if (problemIn(error)?.status !== 404) throw error; // it is gone already
  }
}

export function problemIn(error: unknown): Problem | null {
  return error instanceof ProblemError ? error.problem : null;
}

/** Whether the same may be tried again: the server doesn't answer, or can't just now. */
export function isPassing(error: unknown): boolean {
  const kind = problemIn(error)?.kind;
  return kind === "offline" || kind === "server" || kind === "busy";
}
