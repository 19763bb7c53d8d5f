// A conversation: one thread, or two to four side by side. A thread's messages form a tree, so that
// an edit or a new answer never overwrites what was there; `head` names the branch that is shown.

import type { TokenLogprob, Usage } from "../api/chat";
import type { Problem } from "../api/problems";

export type ParameterValue = number | boolean | string | string[];

export interface Settings {
  model: string;
  provider: string; // the one host to ask; empty: the router chooses
  system: string;
  parameters: Record<string, ParameterValue>;
  tools: string; // JSON as typed, so that a draft with a mistake in it survives
  toolChoice: string;
  schema: string;
  isSchemaOn: boolean;
}

export interface Image {
  name: string;
  url: string; // data:
  width: number;
  height: number;
}

export interface Call {
  id: string;
  name: string;
  arguments: string;
}

/** What an answer took. Times are seconds. */
export interface Facts {
  model: string;
  provider: string;
  attempts: string;
  usage: Usage | null;
  firstTokenS: number | null;
  totalS: number;
  finish: string | null;
  parameters: Record<string, ParameterValue>;
}

export interface Message {
  id: string;
  parent: string | null;
  role: "user" | "assistant" | "tool";
  text: string;
  images: Image[];
  calls: Call[];
  callId?: string; // of a tool's result
  state: "done" | "streaming" | "stopped" | "failed";
  problem?: Problem;
  facts?: Facts;
  tokens?: TokenLogprob[];
  at: number;
}

export interface Thread extends Settings {
  messages: Record<string, Message>;
  head: string | null;
}

export interface Conversation {
  id: string;
  title: string;
  created: number;
  updated: number;
  threads: Thread[];
}

export const MAX_THREADS = 4;

export function newId(): string {
  // randomUUID needs a secure context, which plain HTTP on another host isn't.
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

export function emptySettings(model = ""): Settings {
  return { model, provider: "", system: "", parameters: {}, tools: "", toolChoice: "auto", schema: "", isSchemaOn: false };
}

export function settingsOf(thread: Thread): Settings {
  const { messages: _messages, head: _head, ...settings } = thread;
  return structuredClone(settings);
}

export function newThread(settings: Settings): Thread {
  return { ...structuredClone(settings), messages: {}, head: null };
}

export function newConversation(settings: Settings): Conversation {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, threads: [newThread(settings)] };
}
