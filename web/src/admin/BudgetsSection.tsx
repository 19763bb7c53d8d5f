// What keys have spent of what they may: the keys with a limit, and the sums of all.

import { useState } from "preact/hooks";
import { type Column, DataTable } from "../ui/DataTable";
import { money } from "./format";
import { KeyForm } from "./KeyForm";
import { KeyPages, useKeyPages } from "./KeyPages";
import { stateOf } from "./KeysSection";
import { Trouble } from "./Trouble";
import type { KeyRow } from "./types";
import { useManaged } from "./useManaged";

const PERIODS = { daily: "each day", weekly: "each week", monthly: "each month" };

export function BudgetsSection() {
  const paging = useKeyPages();
  const { data, problem, reload } = useManaged<{ data: KeyRow[] }>(paging.path, 5000);
  const credits = useManaged<{ data: { total_credits: number; total_usage: number } }>("/api/v1/credits", 5000).data?.data;
  const [changed, setChanged] = useState<KeyRow | null>(null);
  const columns: Column<KeyRow>[] = [
    { title: "Key", value: (row) => row.name },
    { title: "State", value: stateOf, show: (row) => <span class="state" data-state={stateOf(row)}>{stateOf(row)}</span> },
    { title: "Budget", kind: "number", value: (row) => row.limit, show: (row) => (row.limit === null ? "no limit" : money(row.limit)) },
    { title: "For", value: (row) => (row.limit === null ? null : row.limit_reset ? PERIODS[row.limit_reset] : "all time") },
    { title: "Remaining", kind: "number", value: (row) => row.limit_remaining, show: Remaining },
    { title: "Today", kind: "number", value: (row) => row.usage_daily, show: (row) => money(row.usage_daily) },
    { title: "This month", kind: "number", value: (row) => row.usage_monthly, show: (row) => money(row.usage_monthly) },
    { title: "In all", kind: "number", value: (row) => row.usage, show: (row) => money(row.usage) },
    {
      title: "What to do", value: () => null,
      show: (row) => <button type="button" class="quiet" aria-label={`Change the budget of ${row.name}`} onClick={() => setChanged(row)}>Change</button>,
    },
  ];
  return (
    <section aria-label="Budgets">
      <p class="lead">A request is refused when what it may cost doesn't fit into what remains. Days, weeks and months are those of UTC.</p>
      <Trouble problem={problem} />
      {credits && (
        <dl class="figures">
          <div><dt>Spent by all keys</dt><dd>{money(credits.total_usage)}</dd></div>
          <div><dt>Left in all budgets</dt><dd>{money(credits.total_credits - credits.total_usage)}</dd></div>
        </dl>
      )}
      {data && <DataTable caption="Budgets" columns={columns} rows={data.data} nothing="There are no keys yet." />}
      {data && <KeyPages paging={paging} num={data.data.length} />}
      {changed && <KeyForm row={changed} onClose={() => { setChanged(null); reload(); }} />}
    </section>
  );
}

function Remaining({ limit, limit_remaining: left, name }: KeyRow) {
  if (limit === null || left === null) return <>–</>;
  return (
    <>
      <meter aria-label={`Remaining of ${name}`} min={0} max={limit || 1} value={Math.max(0, left)} /> {money(left)}
    </>
  );
}
