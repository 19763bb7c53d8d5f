// What was used: the sums of the range, charts of tokens, cost and requests by group, and a table.

import { useMemo } from "preact/hooks";
import { Chart } from "../ui/Chart";
import { type Column, DataTable } from "../ui/DataTable";
import { count } from "../ui/format";
import { GROUPS } from "./address";
import type { LatencyAnswer, TimesGroup, Total, UsageAnswer } from "./answers";
import { CsvLink } from "./CsvLink";
import { money, shareOf, short, time } from "./figures";
import { costAt, requestsAt, tokensAt, usageSeries } from "./series";

interface Properties {
  usage: UsageAnswer;
  latency: LatencyAnswer | null;
  query: string;
}

export function Usage({ usage, latency, query }: Properties) {
  const tokens = useMemo(() => usageSeries(usage, tokensAt), [usage]);
  const cost = useMemo(() => usageSeries(usage, costAt), [usage]);
  const requests = useMemo(() => usageSeries(usage, requestsAt), [usage]);
  const group = GROUPS[usage.group_by].toLowerCase();
  const chart = { times: usage.begins_s, step: usage.range.interval, kind: "bars" } as const;
  return (
    <section aria-labelledby="usage">
      <div class="row title"><h2 id="usage">Usage</h2><CsvLink what="usage" query={query} /></div>
      <Totals total={usage.total} />
      <div class="charts">
        <Chart {...chart} title={`Tokens by ${group}`} series={tokens} show={short} />
        <Chart {...chart} title={`Cost by ${group}`} series={cost} show={money} />
        <Chart {...chart} title={`Requests by ${group}`} series={requests} show={short} />
      </div>
      <Groups usage={usage} latency={latency} title={GROUPS[usage.group_by]} />
    </section>
  );
}

function Totals({ total }: { total: Total }) {
  const figures: [string, string][] = [
    ["Requests", count(total.requests)],
    ["Failed", shareOf(total.failures, total.requests)],
    ["Prompt tokens", short(total.prompt_tokens)],
    ["of them cached", shareOf(total.cached_tokens, total.prompt_tokens)],
    ["Answer tokens", short(total.completion_tokens)],
    ["Cost", money(total.cost_usd)],
  ];
  return <dl class="figures">{figures.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>;
}

interface Row {
  label: string;
  name: string;
  total: Total;
  times: TimesGroup | undefined;
}

function Groups({ usage, latency, title }: { usage: UsageAnswer; latency: LatencyAnswer | null; title: string }) {
  const timed = new Map(latency?.groups.map((group) => [group.name, group]));
  const rows: Row[] = usage.groups.map(({ name, label, total }) => ({ name, label, total, times: timed.get(name) }));
  if (usage.rest.requests > 0) rows.push({ name: "", label: "The rest", total: usage.rest, times: undefined });
  const columns = [...COLUMNS.map((column, place) => (place === 0 ? { ...column, title } : column)), ...(timed.size > 0 ? TIMES : [])];
  return (
    <>
      <h3>By {title.toLowerCase()}</h3>
      <DataTable caption={`Usage by ${title.toLowerCase()}`} columns={columns} rows={rows} />
      {timed.size > 0 && usage.range.interval === "hour" && <p class="faint">Times of single groups are kept by the day: these are of all days that the range has a part of.</p>}
    </>
  );
}

const COLUMNS: Column<Row>[] = [
  { title: "Name", value: ({ label }) => label, show: ({ label, name }) => <span title={name}>{label}</span> },
  { title: "Requests", kind: "number", value: ({ total }) => total.requests },
  { title: "Failed", kind: "number", value: ({ total }) => total.failures },
  { title: "Tokens in", kind: "number", value: ({ total }) => total.prompt_tokens },
  { title: "Tokens out", kind: "number", value: ({ total }) => total.completion_tokens },
  { title: "Cost", kind: "number", value: ({ total }) => total.cost_usd, show: ({ total }) => money(total.cost_usd) },
];

const TIMES: Column<Row>[] = [
  timeColumn("First token p50", (times) => times.time_to_first_token.p50_ms),
  timeColumn("First token p99", (times) => times.time_to_first_token.p99_ms),
  timeColumn("Whole p50", (times) => times.duration.p50_ms),
  timeColumn("Whole p99", (times) => times.duration.p99_ms),
];

function timeColumn(title: string, read: (times: TimesGroup) => number | null): Column<Row> {
  const value = ({ times }: Row) => (times ? read(times) : null);
  return { title, kind: "number", value, show: (row) => (value(row) === null ? "–" : time(value(row)!)) };
}
