// Everything by name: actions, models and conversations (Ctrl-K).

import { useState } from "preact/hooks";
import { models } from "../api/models";
import { history } from "../chat/places";
import { addThread, changeSettings, openById, startConversation } from "../chat/store";
import { Dialog } from "./Dialog";
import { exportAll } from "./History";
import { isHistoryOpen, isSettingsOpen, open, theme } from "./state";

interface Action {
  name: string;
  kind: string;
  run: () => void;
}

const MAX_SHOWN = 12;

export function Palette() {
  const [query, setQuery] = useState("");
  const [at, setAt] = useState(0);
  const found = actions().filter(({ name, kind }) => `${kind} ${name}`.toLowerCase().includes(query.toLowerCase())).slice(0, MAX_SHOWN);
  const run = (action: Action | undefined) => {
    if (!action) return;
    open.value = "none";
    action.run();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (step) {
      event.preventDefault();
      setAt((at + step + found.length) % Math.max(1, found.length));
    } else if (event.key === "Enter") {
      event.preventDefault();
      run(found[at]);
    }
  };
  return (
    <Dialog title="Commands" class="palette">
      <input
        role="combobox" aria-expanded="true" aria-controls="commands" aria-label="Command" placeholder="Type a command, a model or a conversation"
        aria-activedescendant={found[at] ? `command-${at}` : undefined}
        value={query} onInput={(event) => { setQuery(event.currentTarget.value); setAt(0); }} onKeyDown={onKeyDown}
      />
      <ul id="commands" role="listbox" aria-label="Commands">
        {found.map((action, index) => (
          <li key={`${action.kind} ${action.name} ${index}`} id={`command-${index}`} role="option" aria-selected={index === at} onClick={() => run(action)}>
            <span>{action.name}</span><span class="faint">{action.kind}</span>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

function actions(): Action[] {
  const action = (name: string, run: () => void): Action => ({ name, kind: "Action", run });
  return [
    action("New chat", () => startConversation()),
    action("Compare: add a pane", addThread),
    action("View code", () => (open.value = "code")),
    action("Settings", () => (isSettingsOpen.value = !isSettingsOpen.value)),
    action("Conversations", () => (isHistoryOpen.value = !isHistoryOpen.value)),
    action("Light theme", () => (theme.value = "light")),
    action("Dark theme", () => (theme.value = "dark")),
    action("Theme of the system", () => (theme.value = "system")),
    action("Enter a key", () => (open.value = "keys")),
    action("Export all conversations", () => void exportAll()),
    ...models.value.map(({ id }) => ({ name: id, kind: "Model", run: () => changeSettings({ model: id }) })),
    ...history.value.map((one) => ({ name: one.title || "Conversation", kind: "Conversation", run: () => void openById(one.id) })),
  ];
}
