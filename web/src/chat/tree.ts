// Walks a thread's tree of messages. Pure: every change gives a new thread.

import type { Message, Thread } from "./types";

/** The shown branch, from its first message to `end`. */
export function branch(thread: Thread, end: string | null = thread.head): Message[] {
  const found: Message[] = [];
  let at = end;
  while (at !== null) {
    const message: Message | undefined = thread.messages[at];
    if (!message || found.length > 100_000) break; // an imported file may be broken or circular
    found.push(message);
    at = message.parent;
  }
  return found.reverse();
}

/** Messages by parent, oldest first; computed once per change, not once per message. */
export function childrenOf(thread: Thread): Map<string | null, string[]> {
  const children = new Map<string | null, string[]>();
  const byAge = Object.values(thread.messages).sort((a, b) => a.at - b.at);
  for (const { id, parent } of byAge) {
    const siblings = children.get(parent);
    if (siblings) siblings.push(id);
    else children.set(parent, [id]);
  }
  return children;
}

export function withMessage(thread: Thread, message: Message): Thread {
  return { ...thread, messages: { ...thread.messages, [message.id]: message }, head: message.id };
}

export function changed(thread: Thread, id: string, changes: Partial<Message>): Thread {
  const message = thread.messages[id];
  if (!message) return thread;
  return { ...thread, messages: { ...thread.messages, [id]: { ...message, ...changes } } };
}

/** Show the branch through a message: the newest leaf behind it. */
export function showing(thread: Thread, id: string): Thread {
  const children = childrenOf(thread);
  let head = id;
  for (let below = children.get(head); below?.length; below = children.get(head)) {
    head = below[below.length - 1]!;
  }
  return { ...thread, head };
}

/** Leave out a message and all behind it; what stood before it is shown. */
export function without(thread: Thread, id: string): Thread {
  const children = childrenOf(thread);
  const gone = new Set<string>();
  const left = [id];
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    gone.add(next);
    left.push(...(children.get(next) ?? []));
  }
  const messages = Object.fromEntries(
    Object.entries(thread.messages).filter(([key]) => !gone.has(key)),
  );
  const parent = thread.messages[id]?.parent ?? null;
  const siblings = (children.get(parent) ?? []).filter((sibling) => sibling !== id);
  const rest = { ...thread, messages, head: parent };
  const next = siblings[siblings.length - 1];
  return next ? showing(rest, next) : rest;
}
