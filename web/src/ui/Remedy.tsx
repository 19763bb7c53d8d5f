// What can be done in the playground about a problem with an answer.

import { modelsById } from "../api/models";
import type { Problem } from "../api/problems";
import { addThread, startConversation } from "../chat/store";
import { isSettingsOpen } from "./state";

export function Remedy({ problem }: { problem: Problem }) {
  switch (problem.kind) {
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
