// What a key is called and what it may do: for a new one, and for one that is changed.

import { useState } from "preact/hooks";
import { Dialog } from "../ui/Dialog";
import { ProblemCard } from "../ui/ProblemCard";
import { manage } from "./access";
import { bodyOf, type Draft, draftOf } from "./key-draft";
import type { KeyRow } from "./types";
import { useAction } from "./useAction";

interface Properties {
  row: KeyRow | null; // null: a new one
  onClose: () => void;
  onCreated?: (secret: string, name: string) => void;
}

export function KeyForm({ row, onClose, onCreated }: Properties) {
  const [draft, setDraft] = useState(() => draftOf(row));
  const { isBusy, problem, run } = useAction();
  const keep = async (event: Event) => {
    event.preventDefault();
    let secret = "";
    const isDone = await run(async () => {
      if (row) await manage("PATCH", `/api/v1/keys/${row.hash}`, bodyOf(draft, row));
      else secret = (await manage<{ key: string }>("POST", "/api/v1/keys", bodyOf(draft, row))).key;
    });
    if (isDone && secret) onCreated?.(secret, draft.name);
    else if (isDone) onClose();
  };
  const change = (part: Partial<Draft>) => setDraft({ ...draft, ...part });
  return (
    <Dialog title={row ? `Change ${row.name}` : "Create a key"} onClose={onClose}>
      <form class="fields" onSubmit={(event) => void keep(event)}>
        <Text label="Name" value={draft.name} isNeeded onInput={(name) => change({ name })} />
        <div class="pair">
          <Text label="Limit in US dollars" value={draft.limit} kind="number" hint="none" onInput={(limit) => change({ limit })} />
          <ResetChoice value={draft.reset} isOff={draft.limit === ""} onChange={(reset) => change({ reset })} />
        </div>
        <div class="pair">
          <Text label="Requests per minute" value={draft.requests} kind="number" hint="no limit" onInput={(requests) => change({ requests })} />
          <Text label="Tokens per minute" value={draft.tokens} kind="number" hint="no limit" onInput={(tokens) => change({ tokens })} />
        </div>
        <Text label="Models it may use, separated by commas" value={draft.models} hint="all" onInput={(models) => change({ models })} />
        {!row && <Text label="Expires on" value={draft.expires} kind="date" onInput={(expires) => change({ expires })} />}
        {problem && <ProblemCard problem={problem} />}
        <div class="row">
          <button type="submit" class="primary" disabled={isBusy}>{row ? "Save" : "Create"}</button>
          <button type="button" onClick={onClose}>Cancel</button>
        </div>
      </form>
    </Dialog>
  );
}

function Text({ label, value, kind = "text", hint, isNeeded, onInput }: {
  label: string; value: string; kind?: "text" | "number" | "date"; hint?: string; isNeeded?: boolean; onInput: (value: string) => void;
}) {
  const known = {
    value, placeholder: hint, required: isNeeded, autocomplete: "off",
    onInput: (event: { currentTarget: HTMLInputElement }) => onInput(event.currentTarget.value),
  };
  return (
    <label class="field">
      <span>{label}</span>
      {kind === "number" && <input type="number" min={0} step="any" {...known} />}
      {kind === "date" && <input type="date" {...known} />}
      {kind === "text" && <input type="text" {...known} />}
    </label>
  );
}

function ResetChoice({ value, isOff, onChange }: { value: Draft["reset"]; isOff: boolean; onChange: (value: Draft["reset"]) => void }) {
  return (
    <label class="field">
      <span>The limit is for</span>
      <select value={value} disabled={isOff} onChange={(event) => onChange(event.currentTarget.value as Draft["reset"])}>
        <option value="">all time</option>
        <option value="daily">each day</option>
        <option value="weekly">each week</option>
        <option value="monthly">each month</option>
      </select>
    </label>
  );
}
