// The log of requests, newest first, without what was asked and answered.

import { useState } from "preact/hooks";
import { type Column, DataTable } from "../ui/DataTable";
import { download } from "../ui/download";
import { manage, manageText } from "./access";
import { lasting, moment, money } from "./format";
import { NO_FILTER, queryOf, RequestFilters } from "./RequestFilters";
import { Trouble } from "./Trouble";
import type { RequestRow } from "./types";
import { useAction } from "./useAction";
import { useManaged } from "./useManaged";

const PATH = "/outrider/v1/requests";
const CSV_ROWS = 1000;

interface Page {
  data: RequestRow[];
  next: number | null;
}

export function RequestsSection() {
  const [filter, setFilter] = useState(NO_FILTER);
  const [older, setOlder] = useState<Page | null>(null);
  const { isBusy, problem: failure, run } = useAction();
  const query = queryOf(filter);
  // What is looked at stays still once older ones are asked for.
  const { data, problem, reload } = useManaged<Page>(`${PATH}?${query}`, older ? 0 : 5000);
  const rows = [...(data?.data ?? []), ...(older?.data ?? [])];
  const next = older ? older.next : data?.next ?? null;
  const more = () => run(async () => {
    const page = await manage<Page>("GET", `${PATH}?${query}&before=${next}`);
    setOlder({ data: [...(older?.data ?? []), ...page.data], next: page.next });
  });
  const change = (part: Partial<typeof NO_FILTER>) => {
    setOlder(null);
    setFilter({ ...filter, ...part });
  };
  const save = () => run(async () => download("requests.csv", await manageText(`${PATH}?${query}&format=csv&limit=${CSV_ROWS}`), "text/csv"));
  return (
    <section aria-label="Requests">
      <p class="lead">Each request once, when it has ended. What was asked and answered isn't here.</p>
      <RequestFilters filter={filter} onChange={change} />
      <Trouble problem={problem ?? failure} />
      {data && <DataTable caption="Requests" columns={COLUMNS} rows={rows} nothing={next === null ? "No request fits." : "None among the last 100,000."} />}
      {data && (
        <div class="row pager">
          {next !== null && <button type="button" disabled={isBusy} onClick={() => void more()}>Look further back</button>}
          {older && <button type="button" onClick={() => { setOlder(null); reload(); }}>Back to the newest</button>}
          <span class="spring" />
          <button type="button" disabled={isBusy} onClick={() => void save()}>Save the newest {CSV_ROWS.toLocaleString("en")} as CSV</button>
        </div>
      )}
    </section>
  );
}

const COLUMNS: Column<RequestRow>[] = [
  { title: "Begun", value: (row) => row.created_at, show: (row) => <time dateTime={row.created_at} title={row.id}>{moment(row.created_at)}</time> },
  { title: "Status", value: (row) => row.status, show: Status },
  { title: "Model", value: (row) => row.model },
  { title: "Provider", value: (row) => row.provider, show: Providers },
  { title: "Key", value: (row) => row.key_name ?? row.key, show: (row) => row.key_name ?? (row.key ? <code>{row.key.slice(0, 12)}</code> : "–") },
  { title: "App", value: (row) => row.app_title ?? row.app_url },
  { title: "Tokens in", kind: "number", value: (row) => row.prompt_tokens },
  { title: "Out", kind: "number", value: (row) => row.completion_tokens },
  { title: "Cost", kind: "number", value: (row) => row.cost_usd, show: (row) => money(row.cost_usd) },
  { title: "First token", kind: "number", value: (row) => row.first_token_ms, show: (row) => (row.first_token_ms === null ? "–" : lasting(row.first_token_ms / 1000)) },
  { title: "Took", kind: "number", value: (row) => row.duration_ms, show: (row) => lasting(row.duration_ms / 1000) },
];

function Status({ status, error_code: error, is_cancelled: isCancelled }: RequestRow) {
  const isGood = status < 400 && !error;
  return <span class={isGood ? undefined : "bad"}>{status}{error ? ` ${error}` : isCancelled ? " cancelled" : ""}</span>;
}

function Providers({ provider, attempts }: RequestRow) {
  if (attempts.length < 2) return <>{provider ?? "–"}</>;
  const tried = attempts.map((one) => `${one.provider} ${one.status}${one.error_code ? ` ${one.error_code}` : ""}`).join(", then ");
  return <span title={tried}>{provider ?? "–"} <span class="faint">{attempts.length} tries</span></span>;
}
