// Where a key is entered, for servers that want one.

import { useState } from "preact/hooks";
import { apiKey, setApiKey } from "../api/key";
import { loadModels } from "../api/models";
import { Dialog } from "./Dialog";
import { open } from "./state";

export function KeyDialog() {
  const [text, setText] = useState(apiKey.value);
  const keep = async (event: Event) => {
    event.preventDefault();
    setApiKey(text);
    open.value = "none";
    await loadModels();
  };
  return (
    <Dialog title="Key">
      <form onSubmit={keep}>
        <label class="field">
          <span>API key of this server</span>
          <input type="password" autocomplete="off" value={text} placeholder="sk-or-v1-…" onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <p class="faint">It stays in this tab until you close it, and goes to this server only: not into history, links, exports or code samples.</p>
        <div class="row"><button type="submit" class="primary">Use it</button></div>
      </form>
    </Dialog>
  );
}
