// The playground: conversations on the left, the chat in the middle, settings on the right.

import "../styles/layout.css";
import "../styles/chat.css";
import "../styles/panels.css";
import { useEffect, useState } from "preact/hooks";
import { loadModels, models, modelsProblem, areModelsLoaded } from "../api/models";
import { running, stopAll } from "../chat/send";
import { followAddress } from "../chat/start";
import { addThread, announcement, changeSettings, conversation, thread } from "../chat/store";
import { MAX_THREADS } from "../chat/types";
import { CodeDialog } from "../ui/CodeDialog";
import { Composer } from "../ui/Composer";
import { History } from "../ui/History";
import { IconButton } from "../ui/icons";
import { ModelPicker } from "../ui/ModelPicker";
import { NoModel } from "../ui/NoModel";
import { Palette } from "../ui/Palette";
import { ProblemCard } from "../ui/ProblemCard";
import { SettingsPanel } from "../ui/SettingsPanel";
import { isHistoryOpen, isNarrow, isSettingsOpen, open } from "../ui/state";
import { ThreadView } from "../ui/ThreadView";
import { visit } from "../shell/router";

export default function PlaygroundPage() {
  useShortcuts();
  const { number } = visit.value;
  useEffect(() => void followAddress(), [number]);
  const { threads } = conversation.value;
  // One can write before the panels are drawn.
  const [isDrawn, setDrawn] = useState(false);
  useEffect(() => setDrawn(true), []);
  return (
    <div class="app" data-history={isHistoryOpen.value} data-settings={isSettingsOpen.value}>
      {isDrawn && isHistoryOpen.value && <History />}
      <div class="middle">
        <Header />
        <main id="content" tabIndex={-1} aria-label="Playground">
          <Trouble />
          <div class="threads" data-count={threads.length}>
            {threads.map((one, index) => <ThreadView key={index} thread={one} index={index} isAlone={threads.length === 1} />)}
          </div>
          <Composer />
        </main>
      </div>
      {isDrawn && isSettingsOpen.value && <SettingsPanel />}
      {open.value === "palette" && <Palette />}
      {open.value === "code" && <CodeDialog />}
      <div class="hidden" aria-live="polite">{announcement.value}</div>
    </div>
  );
}

function Header() {
  const { threads } = conversation.value;
  return (
    <header class="top">
      <IconButton icon="menu" label="Conversations" pressed={isHistoryOpen.value} onClick={() => toggle(isHistoryOpen, isSettingsOpen)} />
      {threads.length === 1 && <ModelPicker label="Model of the chat" value={thread.value.model} onChange={(model) => changeSettings({ model })} />}
      <span class="spring" />
      <IconButton icon="columns" label="Compare: add a pane" disabled={threads.length >= MAX_THREADS} onClick={addThread} />
      <IconButton icon="code" label="View code" onClick={() => (open.value = "code")} />
      <IconButton icon="sliders" label="Settings" pressed={isSettingsOpen.value} onClick={() => toggle(isSettingsOpen, isHistoryOpen)} />
    </header>
  );
}

function toggle(panel: typeof isHistoryOpen, other: typeof isHistoryOpen): void {
  panel.value = !panel.value;
  if (panel.value && isNarrow()) other.value = false;
}

/** What keeps every answer from coming: no server, no key, no model. */
function Trouble() {
  const retry = <button type="button" class="primary" onClick={() => void loadModels()}>Try again</button>;
  if (modelsProblem.value) return <div class="trouble"><ProblemCard problem={modelsProblem.value}>{retry}</ProblemCard></div>;
  if (areModelsLoaded.value && models.value.length === 0) return <div class="trouble"><NoModel /></div>;
  return null;
}

function useShortcuts(): void {
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        open.value = open.value === "palette" ? "none" : "palette";
      } else if (event.key === "Escape" && open.value === "none") {
        if (running.value.size) stopAll();
        else if (isNarrow()) isHistoryOpen.value = isSettingsOpen.value = false;
      }
    };
    window.addEventListener("keydown", onKeyDown);
    return () => window.removeEventListener("keydown", onKeyDown);
  }, []);
}
