// The conversations of this browser: search, open, delete, export and import.

import { useRef, useState } from "preact/hooks";
import { conversation, forget, history, isEmpty, save, saveNow, show, startConversation } from "../chat/store";
import { exported, imported } from "../chat/share";
import type { Conversation } from "../chat/types";
import { ago } from "./format";
import { Icon, IconButton } from "./icons";
import { isHistoryOpen, isNarrow, tell } from "./state";

const MAX_SHOWN = 200;

export function History() {
  const [query, setQuery] = useState("");
  const found = history.value.filter((one) => matches(one, query.trim().toLowerCase()));
  return (
    <nav class="panel history" aria-label="Conversations">
      <header>
        <button type="button" class="new-chat" onClick={() => { startConversation(); closeIfNarrow(); }}><Icon name="plus" /> New chat</button>
        <IconButton icon="close" label="Close conversations" onClick={() => (isHistoryOpen.value = false)} />
      </header>
      <label class="search">
        <Icon name="search" />
        <input type="search" aria-label="Search conversations" placeholder="Search" value={query} onInput={(event) => setQuery(event.currentTarget.value)} />
      </label>
      <ul class="panel-body">
        {found.slice(0, MAX_SHOWN).map((one) => <Item key={one.id} one={one} />)}
        {found.length === 0 && <li class="faint nothing">{query ? "Nothing found." : "Conversations appear here."}</li>}
      </ul>
      <Transfer />
    </nav>
  );
}

function Item({ one }: { one: Conversation }) {
  const isCurrent = conversation.value.id === one.id;
  return (
    <li class="conversation" data-current={isCurrent}>
      <button type="button" aria-current={isCurrent ? "page" : undefined} onClick={() => { show(one); closeIfNarrow(); }}>
        <span class="title">{one.title || "Conversation"}</span>
        <span class="faint">{one.threads.length > 1 ? `${one.threads.length} panes · ` : ""}{ago(one.updated)}</span>
      </button>
      <IconButton icon="trash" label={`Delete ${one.title || "conversation"}`} onClick={() => void forget(one.id)} />
    </li>
  );
}

function Transfer() {
  const input = useRef<HTMLInputElement>(null);
  const read = async (file: File | undefined) => {
    if (!file) return;
    try {
      const conversations = imported(await file.text());
      for (const one of conversations) await save(one);
      tell(`${conversations.length} imported`);
      if (conversations[0]) show(conversations[0]);
    } catch (error) {
      tell((error as Error).message);
    }
  };
  return (
    <footer class="row">
      <button type="button" class="quiet" onClick={exportAll}>Export</button>
      <button type="button" class="quiet" onClick={() => input.current?.click()}>Import</button>
      <input
        ref={input} type="file" accept="application/json,.json" hidden aria-label="File to import"
        onChange={(event) => { void read(event.currentTarget.files?.[0]); event.currentTarget.value = ""; }}
      />
    </footer>
  );
}

export function exportAll(): void {
  saveNow();
  const all = history.value.filter((one) => !isEmpty(one));
  const url = URL.createObjectURL(new Blob([exported(all)], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = "outrider-chats.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function matches(one: Conversation, query: string): boolean {
  if (!query) return true;
  if (one.title.toLowerCase().includes(query)) return true;
  return one.threads.some(({ messages }) => Object.values(messages).some(({ text }) => text.toLowerCase().includes(query)));
}

function closeIfNarrow(): void {
  if (isNarrow()) isHistoryOpen.value = false;
}
