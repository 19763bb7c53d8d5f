// Settings kept under a name in this browser, and a link that carries them to somebody else.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { changeSettings, thread } from "../chat/store";
import { presets, savePresets, shareLink } from "../chat/share";
import { settingsOf } from "../chat/types";
import { Icon, IconButton } from "./icons";
import { copy, tell } from "./state";

const kept = signal(presets());

export function Presets() {
  const [name, setName] = useState("");
  const keep = (event: Event) => {
    event.preventDefault();
    if (!name.trim()) return;
    kept.value = { ...kept.value, [name.trim()]: settingsOf(thread.value) };
    savePresets(kept.value);
    setName("");
    tell("Preset kept");
  };
  const drop = (which: string) => {
    const { [which]: _gone, ...others } = kept.value;
    kept.value = others;
    savePresets(others);
  };
  return (
    <>
      <ul class="presets" aria-label="Presets">
        {Object.entries(kept.value).map(([each, settings]) => (
          <li key={each}>
            <button type="button" class="quiet" onClick={() => changeSettings(settings)}>{each}</button>
            <IconButton icon="trash" label={`Delete preset ${each}`} onClick={() => drop(each)} />
          </li>
        ))}
      </ul>
      <form class="row" onSubmit={keep}>
        <input aria-label="Name of the preset" placeholder="Name" value={name} onInput={(event) => setName(event.currentTarget.value)} />
        <button type="submit" disabled={!name.trim()}>Keep</button>
      </form>
      <button type="button" class="quiet" onClick={() => copy(shareLink(settingsOf(thread.value)), "Link copied")}>
        <Icon name="share" /> Copy a link to these settings
      </button>
      <p class="faint help">The link holds model, prompts, parameters, tools and schema; no messages, and never a key.</p>
    </>
  );
}
