// Settings as links and presets, conversations as files. Keys are no part of settings, so none can
// get into any of them. What is read was made by strangers: only known fields of known types pass.

import { type Call, type Conversation, emptySettings, type Image, MAX_THREADS, type Message, newConversation, newId, type Settings, type Thread } from "./types";

const FORMAT = "outrider.conversations.v1";
const PRESETS = "outrider.presets";

export function shareLink(settings: Settings): string {
  const bytes = new TextEncoder().encode(JSON.stringify(settings));
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return `${location.origin}/#settings=${text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")}`;
}

export function settingsFromHash(hash: string): Settings | null {
  const text = /^#settings=([\w-]+)$/.exec(hash)?.[1];
  if (!text) return null;
  try {
    const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
    return readSettings(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return null;
  }
}

type Fields = Record<string, unknown>;

export function readSettings(value: unknown): Settings {
  const given = (typeof value === "object" && value !== null ? value : {}) as Fields;
  const settings = emptySettings();
  for (const name of ["model", "provider", "system", "tools", "toolChoice", "schema"] as const) {
    if (typeof given[name] === "string") settings[name] = given[name];
  }
  settings.isSchemaOn = given.isSchemaOn === true;
  for (const [name, one] of Object.entries((given.parameters ?? {}) as Fields)) {
    const isList = Array.isArray(one) && one.every((part) => typeof part === "string");
    if (["number", "boolean", "string"].includes(typeof one) || isList) settings.parameters[name] = one as number;
  }
  return settings;
}

export function presets(): Record<string, Settings> {
  try {
    const stored = JSON.parse(localStorage.getItem(PRESETS) ?? "{}") as Fields;
    return Object.fromEntries(Object.entries(stored).map(([name, value]) => [name, readSettings(value)]));
  } catch {
    return {};
  }
}

export function savePresets(all: Record<string, Settings>): void {
  localStorage.setItem(PRESETS, JSON.stringify(all));
}

export function exported(conversations: Conversation[]): string {
  return JSON.stringify({ format: FORMAT, conversations }, null, 2);
}

/** Read a file of conversations; throws an error in words for a file that isn't one. */
export function imported(text: string): Conversation[] {
  let file: Fields;
  try {
    file = JSON.parse(text) as Fields;
  } catch {
    throw new Error("The file isn't JSON.");
  }
  if (file.format !== FORMAT || !Array.isArray(file.conversations)) throw new Error("The file isn't an export of Outrider's chats.");
  return file.conversations.map(readConversation);
}

export function readConversation(value: Fields): Conversation {
  const base = newConversation(emptySettings());
  const threads = (Array.isArray(value.threads) ? value.threads : []).slice(0, MAX_THREADS).map(readThread);
  return {
    ...base,
    id: typeof value.id === "string" && /^[\w-]{1,40}$/.test(value.id) ? value.id : newId(),
    title: String(value.title ?? "").slice(0, 200),
    created: Number(value.created) || base.created,
    updated: Number(value.updated) || base.updated,
    threads: threads.length ? threads : base.threads,
  };
}

function readThread(value: Fields): Thread {
  const messages = Object.fromEntries(
    Object.values((value.messages ?? {}) as Record<string, Fields>).map((one) => [String(one.id), readMessage(one)]),
  );
  const head = typeof value.head === "string" && value.head in messages ? value.head : null;
  return { ...readSettings(value), messages, head };
}

function readMessage(value: Fields): Message {
  const role = value.role === "user" || value.role === "tool" ? value.role : "assistant";
  const images = (Array.isArray(value.images) ? value.images : []) as Image[];
  const calls = (Array.isArray(value.calls) ? value.calls : []) as Call[];
  const state = value.state === "done" || value.state === "failed" ? value.state : "stopped";
  return {
    ...(value as unknown as Message),
    id: String(value.id), role, state,
    parent: typeof value.parent === "string" ? value.parent : null,
    text: String(value.text ?? ""),
    at: Number(value.at) || 0,
    images: images.filter(({ url }) => typeof url === "string" && url.startsWith("data:image/")),
    calls: calls.map((call) => ({ id: String(call.id), name: String(call.name), arguments: String(call.arguments) })),
  };
}
