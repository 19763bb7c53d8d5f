// How every provider is doing: its breaker, what it was left alone for, and what failed last.

import { useState } from "preact/hooks";
import { type Column, DataTable } from "../ui/DataTable";
import { manage } from "./access";
import { CheckReport } from "./CheckReport";
import { Confirm } from "./Confirm";
import { lasting } from "./format";
import { Trouble } from "./Trouble";
import type { Checked, Counted, EndpointList, EndpointRow } from "./types";
import { useManaged } from "./useManaged";

const PATH = "/outrider/v1/providers";

type Asked = { what: "check" | "reset"; row: EndpointRow } | { what: "report"; report: Checked };

export function ProvidersSection() {
  const { data, problem, reload } = useManaged<EndpointList>(PATH, 2000);
  const [asked, setAsked] = useState<Asked | null>(null);
  const close = () => {
    setAsked(null);
    reload();
  };
  const choice = (row: EndpointRow) => ({ provider: row.provider, model: row.model });
  const check = async (row: EndpointRow) => {
    const report = await manage<Checked>("POST", `${PATH}/check`, choice(row));
    setAsked({ what: "report", report });
    return report;
  };
  return (
    <section aria-label="Providers">
      <p class="lead">
        Who answers, in the order of the settings. One that keeps failing is left alone for a while and then tried with one request at a time.
        {data && ` ${Math.floor(data.retries_left)} of ${data.max_retries} second tries are left to all requests together.`}
      </p>
      <Trouble problem={problem} />
      {data && <DataTable caption="Providers" columns={columnsOf(setAsked)} rows={data.data} nothing="There are no providers, and no model is loaded." />}
      {asked?.what === "check" && (
        <Confirm title={`Check ${asked.row.provider_name}?`} action="Check now" work={() => check(asked.row)} onClose={() => setAsked((now) => (now?.what === "check" ? null : now))}>
          <p>It is sent up to six short requests for {asked.row.model}, which it may charge for. They count neither as good nor as failed.</p>
        </Confirm>
      )}
      {asked?.what === "reset" && (
        <Confirm title={`Reset ${asked.row.provider_name}?`} action="Reset it" work={() => manage("POST", `${PATH}/reset`, choice(asked.row))} onClose={close}>
          <p>Requests for {asked.row.model} go there again at once, as if nothing had failed: its breaker closes, its cooldown ends and a refused key is tried again.</p>
        </Confirm>
      )}
      {asked?.what === "report" && <CheckReport report={asked.report} onClose={close} />}
    </section>
  );
}

function columnsOf(ask: (asked: Asked) => void): Column<EndpointRow>[] {
  return [
    { title: "Provider", value: (row) => row.provider_name },
    { title: "Model", value: (row) => row.model },
    { title: "State", value: stateOf, show: (row) => <span class="state" data-state={toneOf(row)}>{stateOf(row)}</span> },
    { title: "Asked again", value: (row) => row.wait_s, show: waitOf },
    { title: "Running", kind: "number", value: (row) => row.running, show: (row) => `${row.running}${row.max_concurrent ? ` of ${row.max_concurrent}` : ""}` },
    { title: "5 minutes", value: (row) => row.results_5m.failed, show: (row) => <Results counted={row.results_5m} /> },
    { title: "A day", value: (row) => row.results_1d.failed, show: (row) => <Results counted={row.results_1d} /> },
    { title: "Last error", value: (row) => row.last_error?.code ?? null, show: errorOf },
    {
      title: "What to do", value: () => null,
      show: (row) => row.is_local ? <span class="faint">this machine</span> : (
        <span class="actions">
          <button type="button" class="quiet" aria-label={`Check ${row.provider_name}`} onClick={() => ask({ what: "check", row })}>Check</button>
          <button type="button" class="quiet" aria-label={`Reset ${row.provider_name}`} onClick={() => ask({ what: "reset", row })}>Reset</button>
        </span>
      ),
    },
  ];
}

function stateOf(row: EndpointRow): string {
  if (row.denial) return "refuses our key";
  if (!row.is_ready) return "not ready";
  if (row.breaker === "open") return "broken";
  if (row.breaker === "half_open") return "being tried";
  return row.cooldown_s > 0 ? "cooling down" : "fine";
}

function toneOf(row: EndpointRow): string {
  const state = stateOf(row);
  return state === "fine" ? "active" : state === "being tried" || state === "cooling down" ? "waiting" : "failed";
}

function waitOf({ wait_s: wait }: EndpointRow): string {
  if (wait === null) return "after a reload or reset";
  return wait > 0 ? `in ${lasting(Math.max(1, wait))}` : "now";
}

function errorOf({ last_error: error }: EndpointRow) {
  if (!error) return "none";
  const status = error.upstream_status ? ` (${error.upstream_status})` : "";
  return <><code>{error.code}</code>{status}, {lasting(error.ago_s)} ago</>;
}

function Results({ counted: { good, failed } }: { counted: Counted }) {
  if (good + failed === 0) return <span class="faint">none</span>;
  return <>{good.toLocaleString("en")} good{failed > 0 && <>, <b class="bad">{failed.toLocaleString("en")} failed</b></>}</>;
}
