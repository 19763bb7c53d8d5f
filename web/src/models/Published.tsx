// What others have measured and said of a model, each figure with its source.

import { type Column, DataTable } from "../ui/DataTable";
import type { Facts, Score } from "./types";

const COLUMNS: Column<Score>[] = [
  { title: "Benchmark", value: (one) => one.benchmark },
  { title: "Score", kind: "number", value: (one) => one.score, show: (one) => `${one.score} ${one.unit}` },
  { title: "How", value: (one) => one.setting },
  { title: "Source", value: (one) => one.source },
];

export function Benchmarks({ facts }: { facts: Facts | null }) {
  return (
    <section>
      <h2>Benchmarks</h2>
      <DataTable caption="Published benchmark scores" columns={COLUMNS} rows={facts?.scores ?? []} nothing="No scores with a source are known for this model." />
      {facts && facts.scores.length > 0 && <p class="faint">Published for the original weights; quantised ones answer a little differently.</p>}
    </section>
  );
}

export function Judgement({ facts }: { facts: Facts | null }) {
  if (!facts) return null;
  return (
    <section class="judgement">
      <h2>Strengths and limits</h2>
      <div>
        <h3>Good for</h3>
        <ul>{facts.strengths.map((text) => <li key={text}>{text}</li>)}</ul>
      </div>
      <div>
        <h3>Keep in mind</h3>
        <ul>{facts.limits.map((text) => <li key={text}>{text}</li>)}</ul>
      </div>
    </section>
  );
}
