// A problem in words, with what can be done about it as buttons.

import type { ComponentChildren } from "preact";
import type { Problem } from "../api/problems";
import { modelsById } from "../api/models";
import { addThread, startConversation } from "../chat/store";
import { isSettingsOpen, open } from "./state";

export function ProblemCard({ problem, children }: { problem: Problem; children?: ComponentChildren }) {
  return (
    <div class="problem" role="alert">
      <strong>{problem.title}</strong>
      <p>{problem.detail}</p>
      {problem.path && <p>The place in the schema: <code>{problem.path}</code></p>}
      <div class="row">{children}<Remedy problem={problem} /></div>
    </div>
  );
}

function Remedy({ problem }: { problem: Problem }) {
  switch (problem.kind) {
    case "key":
    case "budget":
      return <button type="button" onClick={() => (open.value = "keys")}>Enter a key</button>;
    case "context":
      return <button type="button" onClick={() => startConversation()}>Start a new chat</button>;
    case "schema":
    case "refused":
      return <button type="button" onClick={() => (isSettingsOpen.value = true)}>Look at the settings</button>;
    case "model":
      return modelsById.value.size > 1 ? <button type="button" onClick={addThread}>Ask another model</button> : null;
    default:
      return null;
  }
}
