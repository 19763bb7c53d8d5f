// What this browser keeps (IndexedDB; in memory where it allows no storage): conversations, and
// what waits to be sent to the server for a key. Keys never come here, only a mark to tell them
// apart by.

import type { Conversation } from "./types";

const CONVERSATIONS = "conversations";
const WAITING = "waiting";
let opening: Promise<IDBDatabase | null> | undefined;

/** A change that the server doesn't have yet; without a conversation, it is to be deleted. */
export interface Waiting {
  name: string; // of key and conversation
  mark: string; // of the key
  id: string;
  conversation: Conversation | null;
  version: number; // that it was made from
}

const fallback = { [CONVERSATIONS]: new Map<string, unknown>(), [WAITING]: new Map<string, unknown>() };
type Store = keyof typeof fallback;

function open(): Promise<IDBDatabase | null> {
  opening ??= new Promise((resolve) => {
    try {
      const request = indexedDB.open("outrider", 2);
      request.onupgradeneeded = ({ oldVersion }) => {
        if (oldVersion < 1) request.result.createObjectStore(CONVERSATIONS, { keyPath: "id" });
        if (oldVersion < 2) request.result.createObjectStore(WAITING, { keyPath: "name" });
      };
      request.onsuccess = () => {
        request.result.onversionchange = () => request.result.close(); // a newer tab wants it
        resolve(request.result);
      };
      request.onerror = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
  return opening;
}

async function run<T>(name: Store, mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T | null> {
  const database = await open();
  if (!database) return null;
  return new Promise((resolve, reject) => {
    const request = work(database.transaction(name, mode).objectStore(name));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function all<T>(name: Store): Promise<T[]> {
  return (await run<T[]>(name, "readonly", (store) => store.getAll())) ?? ([...fallback[name].values()] as T[]);
}

async function put(name: Store, key: string, value: unknown): Promise<void> {
  fallback[name].set(key, value);
  await run(name, "readwrite", (store) => store.put(value));
}

async function remove(name: Store, key: string): Promise<void> {
  fallback[name].delete(key);
  await run(name, "readwrite", (store) => store.delete(key));
}

export async function allConversations(): Promise<Conversation[]> {
  return (await all<Conversation>(CONVERSATIONS)).sort((a, b) => b.updated - a.updated);
}

export const putConversation = (conversation: Conversation) => put(CONVERSATIONS, conversation.id, conversation);
export const deleteConversation = (id: string) => remove(CONVERSATIONS, id);

export async function allWaiting(mark: string): Promise<Waiting[]> {
  return (await all<Waiting>(WAITING)).filter((one) => one.mark === mark);
}

export const putWaiting = (one: Waiting) => put(WAITING, one.name, one);

/** Forget what was sent, unless another tab has put something newer there. */
export async function deleteWaiting(one: Waiting): Promise<void> {
  const stored = await run<Waiting>(WAITING, "readonly", (store) => store.get(one.name));
  if (!stored || updated(stored) <= updated(one)) await remove(WAITING, one.name);
}

function updated({ conversation }: Waiting): number {
  return conversation?.updated ?? Infinity;
}
