// The conversations of this browser and of the key: search, open, delete, export and import, and
// where they are kept.

import { useEffect, useRef, useState } from "preact/hooks";
import { everything, everythingHere, history, type Listed, loadMore, next, search, where } from "../chat/places";
import { exported, imported } from "../chat/share";
import { conversation, forget, isEmpty, openById, save, saveNow, show, startConversation } from "../chat/store";
import type { Conversation } from "../chat/types";
import { download } from "./download";
import { ago } from "./format";
import { HistoryPlace } from "./HistoryPlace";
import { Icon, IconButton } from "./icons";
import { isHistoryOpen, isNarrow, tell } from "./state";

const MAX_SHOWN = 200;
const SEARCH_AFTER_MS = 250;

export function History() {
  const [query, setQuery] = useState("");
  const { found, trouble } = useFound(query.trim());
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
        {trouble && <li class="faint nothing">{trouble}</li>}
        {!query && next.value && <li><button type="button" class="quiet" onClick={() => void older()}>Older conversations</button></li>}
      </ul>
      <HistoryPlace />
      <Transfer />
    </nav>
  );
}

/** What a question finds: here at once, and on the server when somebody has stopped typing. */
function useFound(query: string): { found: Listed[]; trouble: string } {
  const [answer, setAnswer] = useState<{ query: string; rows: Listed[]; trouble: string }>({ query: "", rows: [], trouble: "" });
  const isAsked = query !== "" && where.value === "server";
  useEffect(() => {
    if (!isAsked) return;
    const stopper = new AbortController();
    const timer = setTimeout(async () => {
      try {
        setAnswer({ query, rows: await search(query, stopper.signal), trouble: "" });
      } catch {
        if (!stopper.signal.aborted) setAnswer({ query, rows: [], trouble: "The server doesn't answer, so only what is here was searched." });
      }
    }, SEARCH_AFTER_MS);
    return () => {
      clearTimeout(timer);
      stopper.abort();
    };
  }, [query, isAsked]);
  if (!query) return { found: history.value, trouble: "" };
  const here = history.value.filter((one) => matches(one, query.toLowerCase()));
  if (!isAsked || answer.query !== query) return { found: here, trouble: "" };
  const known = new Set(here.map(({ id }) => id));
  const found = [...here, ...answer.rows.filter(({ id }) => !known.has(id))];
  return { found: found.sort((a, b) => b.updated - a.updated), trouble: answer.trouble };
}

function Item({ one }: { one: Listed }) {
  const isCurrent = conversation.value.id === one.id;
  const isHereOnly = where.value === "server" && one.place === "browser";
  const facts = [one.panes > 1 && `${one.panes} panes`, isHereOnly && "in this browser", ago(one.updated)];
  return (
    <li class="conversation" data-current={isCurrent}>
      <button type="button" aria-current={isCurrent ? "page" : undefined} onClick={() => { void openById(one.id); closeIfNarrow(); }}>
        <span class="title">{one.title || "Conversation"}</span>
        <span class="faint">{facts.filter(Boolean).join(" · ")}</span>
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
      <button type="button" class="quiet" onClick={() => void exportAll()}>Export</button>
      <button type="button" class="quiet" onClick={() => input.current?.click()}>Import</button>
      <input
        ref={input} type="file" accept="application/json,.json" hidden aria-label="File to import"
        onChange={(event) => { void read(event.currentTarget.files?.[0]); event.currentTarget.value = ""; }}
      />
    </footer>
  );
}

export async function exportAll(): Promise<void> {
  saveNow();
  let all: Conversation[];
  try {
    all = await everything((read) => tell(`${read} read`));
  } catch (error) {
    all = everythingHere();
    tell(`${(error as Error).message}. Only what is in this browser was exported.`);
  }
  download("outrider-chats.json", exported(all.filter((one) => !isEmpty(one))), "application/json");
}

async function older(): Promise<void> {
  try {
    await loadMore();
  } catch (error) {
    tell((error as Error).message);
  }
}

function matches({ title, whole }: Listed, query: string): boolean {
  if (title.toLowerCase().includes(query)) return true;
  return whole?.threads.some(({ messages }) => Object.values(messages).some(({ text }) => text.toLowerCase().includes(query))) ?? false;
}

function closeIfNarrow(): void {
  if (isNarrow()) isHistoryOpen.value = false;
}
