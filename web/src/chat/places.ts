// Where conversations are: in this browser, or on the server for the key that is used. One list of
// both, and what moves them. New ones go to the server where it keeps them for the key.

import { signal } from "@preact/signals";
import { isPassing, listKept, problemIn, type Row } from "../api/conversations";
import { readConversation } from "./share";
import { isGone, Shelf } from "./shelf";
import { allConversations, deleteConversation, putConversation } from "./storage";
import type { Conversation } from "./types";

export type Place = "browser" | "server";

export interface Listed {
  id: string;
  title: string;
  updated: number;
  panes: number;
  place: Place;
  whole: Conversation | null; // null: the server has it, and it wasn't opened yet
}

const RETRY_MS = 2000;
const READ_AT_ONCE = 4;
const NO_PLACE = "The server keeps conversations for keys that it knows and that may chat.";

export const history = signal<Listed[]>([]);
/** Where new conversations go. */
export const where = signal<Place>("browser");
/** Why they stay in the browser though a key is used. */
export const refusal = signal("");
/** What the next page of the server's list is asked for by. */
export const next = signal<string | null>(null);

let shelf: Shelf | null = null;

export interface Follower {
  changed(conversation: Conversation): void;
  tell(text: string): void;
}

export function enlist(added: Listed[]): void {
  const ids = new Set(added.map(({ id }) => id));
  const others = history.value.filter(({ id }) => !ids.has(id));
  history.value = [...added, ...others].sort((a, b) => b.updated - a.updated);
}

function listed(whole: Conversation, place: Place): Listed {
  const { id, title, updated, threads } = whole;
  return { id, title, updated, panes: threads.length, place, whole };
}

export function find(id: string): Listed | undefined {
  return history.value.find((one) => one.id === id);
}

export async function put(one: Conversation): Promise<void> {
  const known = find(one.id);
  if (known?.whole === one) return; // it was read or kept as it is
  const place = known?.place ?? where.value;
  enlist([listed(one, place)]);
  if (place === "server" && shelf) await shelf.keep(one);
  else await putConversation(one);
}

export async function drop(id: string): Promise<void> {
  const place = find(id)?.place;
  history.value = history.value.filter((one) => one.id !== id);
  if (place === "server") await shelf?.forget(id);
  else await deleteConversation(id);
}

/** Give a whole conversation; throws a problem if the server has it and doesn't give it. */
export async function whole(id: string): Promise<Conversation | null> {
  const known = find(id);
  // An answer that is being written isn't on the server yet.
  if (known?.whole && (known.place === "browser" || isWriting(known.whole))) return known.whole;
  if (!shelf) return null;
  try {
    const read = await shelf.read(id);
    enlist([listed(read, "server")]);
    return read;
  } catch (error) {
    if (known?.whole && isPassing(error)) return known.whole; // as it was when it was read last
    throw error;
  }
}

function isWriting({ threads }: Conversation): boolean {
  return threads.some(({ messages }) => Object.values(messages).some(({ state }) => state === "streaming"));
}

export async function loadBrowser(): Promise<void> {
  enlist((await allConversations()).map((one) => listed(one, "browser")));
}

/** Use a key's shelf from now on; without a key, none. */
export async function connect(key: string, follower: Follower): Promise<void> {
  shelf?.close();
  shelf = null;
  history.value = history.value.filter(({ place }) => place === "browser");
  next.value = null;
  refusal.value = "";
  where.value = key ? "server" : "browser";
  if (!key) return;
  const mine = new Shelf(markOf(key), {
    changed(conversation) {
      enlist([listed(conversation, "server")]);
      follower.changed(conversation);
    },
    refused(conversation, why) {
      void toBrowser(conversation);
      follower.tell(`“${conversation.title || "Conversation"}” stays in this browser: ${why}`);
    },
  });
  shelf = mine;
  const waiting = await mine.open();
  if (shelf === mine) enlist(waiting.map((one) => listed(settled(one), "server")));
  await refresh();
}

/** Read the beginning of the server's list, again until it answers. */
export async function refresh(): Promise<void> {
  const mine = shelf;
  if (!mine) return;
  try {
    const page = await listKept(null);
    if (shelf !== mine) return;
    if (!page.is_kept) return void (await stayHere(NO_PLACE));
    const rows = new Set(page.data.map(({ id }) => id));
    history.value = history.value.filter(({ id, place }) => place === "browser" || mine.isWaiting(id) || rows.has(id));
    enlistRows(page.data);
    next.value = page.next;
    isGone.value = false;
    mine.sendSoon();
  } catch (error) {
    if (shelf !== mine) return;
    if (!isPassing(error)) return void (await stayHere(problemIn(error)?.detail ?? String(error)));
    isGone.value = true;
    setTimeout(() => shelf === mine && void refresh(), RETRY_MS);
  }
}

export async function loadMore(): Promise<void> {
  const page = await listKept(next.value);
  enlistRows(page.data);
  next.value = page.next;
}

/** Find the server's conversations that have all these words. */
export async function search(words: string, signal: AbortSignal): Promise<Listed[]> {
  const { data } = await listKept(null, words, signal);
  return data.filter(({ id }) => !shelf?.isDeleting(id)).map((row) => find(row.id) ?? fromRow(row));
}

/** Give the conversations that are whole in this browser, if only until they are sent. */
export function everythingHere(): Conversation[] {
  const here = history.value.filter(({ id, place }) => place === "browser" || shelf?.isWaiting(id));
  return here.flatMap((one) => one.whole ?? []);
}

/** Give every conversation, the server's too; `told` hears how many were read. */
export async function everything(told: (read: number) => void): Promise<Conversation[]> {
  const all = new Map(everythingHere().map((one) => [one.id, one]));
  let after: string | null = null;
  do {
    if (where.value === "browser") break;
    const page = await listKept(after);
    const left = page.data.filter(({ id }) => !all.has(id) && !shelf?.isDeleting(id));
    while (left.length) {
      const read = await Promise.all(left.splice(0, READ_AT_ONCE).map(({ id }) => shelf?.read(id)));
      for (const one of read) if (one) all.set(one.id, one);
      told(all.size);
    }
    after = page.next;
  } while (after);
  return [...all.values()].sort((a, b) => b.updated - a.updated);
}

/** Move what is in this browser to the server, one after the other. */
export async function moveToServer(): Promise<void> {
  for (const one of history.value.filter(({ place }) => place === "browser")) {
    if (!one.whole || !shelf) continue;
    await shelf.keep(one.whole); // kept in the browser until the server has it
    await deleteConversation(one.id);
    enlist([{ ...one, place: "server" }]);
  }
}

async function toBrowser(conversation: Conversation): Promise<void> {
  enlist([listed(conversation, "browser")]);
  await putConversation(conversation);
}

/** The server keeps nothing for this key: all stays in the browser. */
async function stayHere(why: string): Promise<void> {
  const left = shelf;
  shelf = null;
  where.value = "browser";
  refusal.value = why;
  for (const one of (await left?.giveUp()) ?? []) await toBrowser(settled(one));
}

function enlistRows(rows: Row[]): void {
  const fresh = rows.filter(({ id }) => !shelf?.isWaiting(id));
  enlist(fresh.map((row) => ({ ...fromRow(row), whole: find(row.id)?.whole ?? null })));
}

function fromRow({ id, title, updated_ms: updated, num_threads: panes }: Row): Listed {
  return { id, title, updated, panes, place: "server", whole: null };
}

/** What an earlier tab left was cut off with it. */
function settled(conversation: Conversation): Conversation {
  return readConversation(conversation as unknown as Record<string, unknown>);
}

/** Tell keys apart without keeping anything of them (FNV-1a, 32 bits). */
export function markOf(key: string): string {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(key)) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, "0");
}
