// Brings together what two tabs or machines made of one conversation. Messages form a tree and are
// never changed once they are complete, so nothing of either side is lost.

import type { Conversation, Message, Thread } from "./types";

/** The settings and the shown branch are those of `mine`. */
export function merged(theirs: Conversation, mine: Conversation): Conversation {
  const longer = mine.threads.length >= theirs.threads.length ? mine.threads : theirs.threads;
  return {
    ...mine,
    title: mine.title || theirs.title,
    created: Math.min(mine.created, theirs.created),
    updated: Math.max(mine.updated, theirs.updated),
    threads: longer.map((_, index) => mergedThread(theirs.threads[index], mine.threads[index])),
  };
}

function mergedThread(theirs: Thread | undefined, mine: Thread | undefined): Thread {
  if (!theirs || !mine) return (mine ?? theirs)!;
  const messages: Record<string, Message> = { ...theirs.messages };
  for (const message of Object.values(mine.messages)) {
    const other = messages[message.id];
    if (!other || message.state === "done" || other.state !== "done") messages[message.id] = message;
  }
  return { ...mine, messages, head: mine.head ?? theirs.head };
}
