// The page's state: the conversation that is shown, and what is saved when. Where: ./places.

import { batch, computed, signal } from "@preact/signals";
import { apiKey } from "../api/key";
import { problemIn } from "../api/conversations";
import { models } from "../api/models";
import { tell } from "../ui/state";
import { merged } from "./merge";
import { connect, drop, find, loadBrowser, put, whole } from "./places";
import {
  type Conversation, emptySettings, MAX_THREADS, newConversation, newThread, type Settings, settingsOf,
  type Thread,
} from "./types";

const LAST_SETTINGS = "outrider.settings";
const SAVE_AFTER_MS = 400;

export const conversation = signal<Conversation>(newConversation(rememberedSettings()));
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
  const other = find(id)?.whole;
  if (other) void save(change(other));
}

export function changeSettings(changes: Partial<Settings>, index = activeThread.value): void {
  changeThread(index, (old) => ({ ...old, ...changes }));
  localStorage.setItem(LAST_SETTINGS, JSON.stringify(settingsOf(thread.value)));
}

export async function save(one: Conversation): Promise<void> {
  if (!isEmpty(one)) await put(one);
}

export function saveNow(): void {
  clearTimeout(saving);
  void save(conversation.value);
}

export function isEmpty(one: Conversation): boolean {
  return one.threads.every(({ messages }) => Object.keys(messages).length === 0);
}

export async function loadHistory(): Promise<void> {
  await loadBrowser();
  const asked = askedFor();
  const found = asked ? find(asked)?.whole : null;
  if (found) show(found, false);
  void useKey().then(() => !found && asked && askedFor() === asked && void openById(asked, false));
}

/** Use the shelf of the key that is there now; what was saved until now belongs to the one before. */
export async function useKey(): Promise<void> {
  saveNow();
  if (find(conversation.value.id)?.place === "server") {
    show(newConversation(settingsOf(thread.value)), false);
    if (askedFor()) window.history.replaceState(null, "", "/");
    announcement.value = "";
  }
  await connect(apiKey.value, {
    tell,
    changed(both) {
      if (both.id === conversation.value.id) conversation.value = merged(both, conversation.value);
    },
  });
}

/** Show a conversation of the list, read from where it is. */
export async function openById(id: string, isNewAddress = true): Promise<void> {
  try {
    const found = await whole(id);
    if (found) show(found, isNewAddress);
  } catch (error) {
    const problem = problemIn(error);
    if (!problem) throw error;
    tell(problem.status === 404 ? "The conversation was deleted, or belongs to another key" : `${problem.title}; try again later`);
  }
}

function askedFor(): string | undefined {
  return /^\/chat\/([\w-]+)$/.exec(location.pathname)?.[1];
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
  const isShown = conversation.value.id === id;
  if (isShown) clearTimeout(saving);
  await drop(id);
  if (isShown && conversation.value.id === id) {
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
  const asked = askedFor();
  if (asked) void openById(asked, false);
  else show(newConversation(settingsOf(thread.value)), false);
});
window.addEventListener("pagehide", saveNow);
