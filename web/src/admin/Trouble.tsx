// Why a section has nothing to show: mostly that a management key is missing.

import type { Problem } from "../api/problems";
import { ProblemCard } from "../ui/ProblemCard";
import { asksForKey, managementKey } from "./access";

export function Trouble({ problem }: { problem: Problem | null }) {
  if (!problem) return null;
  if (problem.kind !== "key") return <ProblemCard problem={problem} />;
  const title = managementKey.value ? "The server doesn't take this management key" : "This needs a management key";
  return (
    <div class="problem" role="alert">
      <strong>{title}</strong>
      <p>{problem.detail}</p>
      <p>Whoever runs the server makes one with <code>outrider keys create --management NAME</code>.</p>
      <div class="row"><button type="button" onClick={() => (asksForKey.value = true)}>Enter a management key</button></div>
    </div>
  );
}
