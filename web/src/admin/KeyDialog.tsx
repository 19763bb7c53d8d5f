// Where the management key is entered.

import { useState } from "preact/hooks";
import { Dialog } from "../ui/Dialog";
import { asksForKey, managementKey, setManagementKey } from "./access";

export function KeyDialog() {
  const [text, setText] = useState(managementKey.value);
  const close = () => (asksForKey.value = false);
  const keep = (event: Event) => {
    event.preventDefault();
    setManagementKey(text);
    close();
  };
  return (
    <Dialog title="Management key" onClose={close}>
      <form onSubmit={keep}>
        <label class="field">
          <span>Management key of this server</span>
          <input type="password" autocomplete="off" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <p class="faint">It stays in this tab until you close it, and is used on this page only.</p>
        <div class="row"><button type="submit" class="primary">Use it</button></div>
      </form>
    </Dialog>
  );
}
