// The engine of this machine: its one model, and what it is doing.

import { bytes } from "./format";
import type { EngineRow } from "./types";

const STATES: Record<EngineRow["state"], string> = {
  none: "No model is loaded",
  loading: "A model is being loaded",
  ready: "ready",
  restarting: "being started again",
  unloading: "being unloaded",
};

export function EngineCard({ engine, freeBytes, onUnload }: { engine: EngineRow; freeBytes: number | null; onUnload: () => void }) {
  const canUnload = engine.model !== null && engine.state !== "unloading";
  return (
    <div class="card">
      <div class="row">
        <h2>{engine.served_as ?? STATES[engine.state]}</h2>
        {engine.served_as && <span class="state" data-state={engine.state === "ready" ? "active" : "waiting"}>{STATES[engine.state]}</span>}
        <span class="spring" />
        {canUnload && <button type="button" onClick={onUnload}>Unload</button>}
      </div>
      <dl class="figures">
        {engine.context_length !== null && <div><dt>Context</dt><dd>{engine.context_length.toLocaleString("en")} tokens</dd></div>}
        {engine.served_as && <div><dt>Running</dt><dd>{engine.running} and {engine.waiting} waiting</dd></div>}
        {engine.restarts > 0 && <div><dt>Restarts</dt><dd>{engine.restarts}</dd></div>}
        {freeBytes !== null && <div><dt>Free memory</dt><dd>{bytes(freeBytes)}</dd></div>}
      </dl>
      {engine.state === "none" && <p class="faint">Load one of the models below; providers answer without it.</p>}
    </div>
  );
}
