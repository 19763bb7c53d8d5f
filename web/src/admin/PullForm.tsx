// Fetches a model by its name.

import { useState } from "preact/hooks";
import { bytes } from "./format";

export function PullForm({ freeBytes, onPull }: { freeBytes: number | null; onPull: (name: string) => void }) {
  const [name, setName] = useState("");
  const pull = (event: Event) => {
    event.preventDefault();
    onPull(name.trim());
    setName("");
  };
  return (
    <form class="pull" onSubmit={pull}>
      <label class="field">
        <span>Pull another model</span>
        <input value={name} required autocomplete="off" spellcheck={false} placeholder="hf:OWNER/NAME or hf:OWNER/NAME/FILE.gguf" onInput={(event) => setName(event.currentTarget.value)} />
      </label>
      <button type="submit">Pull</button>
      {freeBytes !== null && <p class="faint">{bytes(freeBytes)} are free on the disk. A pull goes on while this page is closed, and one that was cancelled goes on where it was.</p>}
    </form>
  );
}
