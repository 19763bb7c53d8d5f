// The page's state: the conversation that is shown, the list of others, and what is saved when.

import { batch, computed, signal } from "@preact/signals";
import { models } from "../api/models";
import { allConversations, deleteConversation, putConversation } from "./storage";
import {
  type Conversation, emptySettings, MAX_THREADS, newConversation, newThread, type Settings, settingsOf,
  type Thread,
} from "./types";

const LAST_SETTINGS = "outrider.settings";
const SAVE_AFTER_MS = 400;

export const conversation = signal<Conversation>(newConversation(rememberedSettings()));
export const history = signal<Conversation[]>([]);
export const activeThread = signal(0);
export const thread = computed(() => conversation.value.threads[activeThread.value] ?? conversation.value.threads[0]!);
/** What is spoken to a screen reader. */
export const announcement = signal("");

let saving: ReturnType<typeof setTimeout> | undefined;

export function changeThread(index: number, change: (thread: Thread) => Thread, id = conversation.value.id): void {
  changeConversation(id, (old) => {
    const before = old.threads[index];
    if (!before) return old;
    const threads = [...old.threads];
    threads[index] = change(before);
    return { ...old, threads, updated: Date.now() };
  });
}

/** Change a conversation, shown or not: an answer goes on when another one is opened. */
export function changeConversation(id: string, change: (old: Conversation) => Conversation): void {
  if (conversation.value.id === id) {
    conversation.value = change(conversation.value);
    clearTimeout(saving);
    saving = setTimeout(() => void save(conversation.value), SAVE_AFTER_MS);
    return;
  }
  const other = history.value.find((one) => one.id === id);
  if (other) void save(change(other));
}

export function changeSettings(changes: Partial<Settings>, index = activeThread.value): void {
  changeThread(index, (old) => ({ ...old, ...changes }));
  localStorage.setItem(LAST_SETTINGS, JSON.stringify(settingsOf(thread.value)));
}

export async function save(one: Conversation): Promise<void> {
  if (isEmpty(one)) return;
  const others = history.value.filter(({ id }) => id !== one.id);
  history.value = [one, ...others].sort((a, b) => b.updated - a.updated);
  await putConversation(one);
}

export function saveNow(): void {
  clearTimeout(saving);
  void save(conversation.value);
}

export function isEmpty(one: Conversation): boolean {
  return one.threads.every(({ messages }) => Object.keys(messages).length === 0);
}

export async function loadHistory(): Promise<void> {
  history.value = await allConversations();
  const asked = /^\/chat\/([\w-]+)$/.exec(location.pathname)?.[1];
  const found = history.value.find(({ id }) => id === asked);
  if (found) show(found, false);
}

export function show(one: Conversation, isNewAddress = true): void {
  saveNow();
  batch(() => {
    conversation.value = one;
    activeThread.value = 0;
  });
  if (isNewAddress) window.history.pushState(null, "", isEmpty(one) ? "/" : `/chat/${one.id}`);
}

export function startConversation(settings: Settings = settingsOf(thread.value)): void {
  show(newConversation(settings));
}

export function rememberAddress(): void {
  const address = `/chat/${conversation.value.id}`;
  if (location.pathname !== address) window.history.pushState(null, "", address);
}

export async function forget(id: string): Promise<void> {
  history.value = history.value.filter((one) => one.id !== id);
  await deleteConversation(id);
  if (conversation.value.id === id) {
    conversation.value = newConversation(settingsOf(thread.value));
    window.history.replaceState(null, "", "/");
  }
}

export function addThread(): void {
  const { threads, id } = conversation.value;
  if (threads.length >= MAX_THREADS) return;
  const last = threads[threads.length - 1]!;
  const next = models.value.find(({ id: name }) => !threads.some(({ model }) => model === name));
  const added = { ...newThread(settingsOf(last)), ...(next ? { model: next.id } : {}) };
  // A new pane begins with the questions so far, so that all of them go on from the same place.
  changeConversation(id, (old) => ({ ...old, threads: [...old.threads, { ...added, messages: last.messages, head: last.head }] }));
  activeThread.value = threads.length;
}

export function removeThread(index: number): void {
  if (conversation.value.threads.length < 2) return;
  changeConversation(conversation.value.id, (old) => ({ ...old, threads: old.threads.filter((_, at) => at !== index) }));
  activeThread.value = 0;
}

/** Choose a model where none is chosen, or where the chosen one is no longer served. */
export function chooseModels(): void {
  const first = models.value[0]?.id;
  if (!first) return;
  conversation.value.threads.forEach((one, index) => {
    if (!one.model) changeThread(index, (old) => ({ ...old, model: first }));
  });
}

function rememberedSettings(): Settings {
  try {
    const stored = JSON.parse(localStorage.getItem(LAST_SETTINGS) ?? "{}") as Partial<Settings>;
    return { ...emptySettings(), ...stored };
  } catch {
    return emptySettings();
  }
}

window.addEventListener("popstate", () => {
  if (location.pathname !== "/" && !location.pathname.startsWith("/chat/")) return; // another page
  const asked = /^\/chat\/([\w-]+)$/.exec(location.pathname)?.[1];
  const found = history.value.find(({ id }) => id === asked);
  if (found) show(found, false);
  else if (!asked) show(newConversation(settingsOf(thread.value)), false);
});
window.addEventListener("pagehide", saveNow);
