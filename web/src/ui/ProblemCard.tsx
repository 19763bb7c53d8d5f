// A problem in words, with what can be done about it as buttons. Knows the remedies of every page;
// a page adds its own as children.

import type { ComponentChildren } from "preact";
import type { Problem } from "../api/problems";
import { open } from "./state";

export function ProblemCard({ problem, children }: { problem: Problem; children?: ComponentChildren }) {
  const wantsKey = problem.kind === "key" || problem.kind === "budget";
  return (
    <div class="problem" role="alert">
      <strong>{problem.title}</strong>
      <p>{problem.detail}</p>
      {problem.path && <p>The place in the schema: <code>{problem.path}</code></p>}
      <div class="row">
        {children}
        {wantsKey && <button type="button" onClick={() => (open.value = "keys")}>Enter a key</button>}
      </div>
    </div>
  );
}
