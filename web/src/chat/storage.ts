// Conversations in this browser (IndexedDB); in memory where the browser allows no storage. Keeps
// nothing but conversations: keys never come here.

import type { Conversation } from "./types";

const STORE = "conversations";
const fallback = new Map<string, Conversation>();
let opening: Promise<IDBDatabase | null> | undefined;

function open(): Promise<IDBDatabase | null> {
  opening ??= new Promise((resolve) => {
    try {
      const request = indexedDB.open("outrider", 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
  return opening;
}

async function run<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T | null> {
  const database = await open();
  if (!database) return null;
  return new Promise((resolve, reject) => {
    const request = work(database.transaction(STORE, mode).objectStore(STORE));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export async function allConversations(): Promise<Conversation[]> {
  const stored = (await run<Conversation[]>("readonly", (store) => store.getAll())) ?? [...fallback.values()];
  return stored.sort((a, b) => b.updated - a.updated);
}

export async function putConversation(conversation: Conversation): Promise<void> {
  fallback.set(conversation.id, conversation);
  await run("readwrite", (store) => store.put(conversation));
}

export async function deleteConversation(id: string): Promise<void> {
  fallback.delete(id);
  await run("readwrite", (store) => store.delete(id));
}
