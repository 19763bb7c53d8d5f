// Keys that infer: made, limited, disabled and revoked. A secret is shown once, when it is made.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { type Column, DataTable } from "../ui/DataTable";
import { manage } from "./access";
import { Confirm } from "./Confirm";
import { moment, money } from "./format";
import { KeyForm } from "./KeyForm";
import { KeyPages, useKeyPages } from "./KeyPages";
import { NewSecret } from "./NewSecret";
import { Trouble } from "./Trouble";
import type { KeyRow } from "./types";
import { useAction } from "./useAction";
import { useManaged } from "./useManaged";

type Asked = { what: "create" } | { what: "change" | "revoke"; row: KeyRow } | { what: "secret"; secret: string; name: string };

export function KeysSection() {
  const paging = useKeyPages();
  const { data, problem, reload } = useManaged<{ data: KeyRow[] }>(paging.path, 5000);
  const [asked, setAsked] = useState<Asked | null>(null);
  const toggling = useAction();
  const close = () => {
    setAsked(null);
    reload();
  };
  const toggle = (row: KeyRow) => toggling.run(() => manage("PATCH", `/api/v1/keys/${row.hash}`, { disabled: !row.disabled })).then(reload);
  const columns = columnsOf((row) => (
    <span class="actions">
      <button type="button" class="quiet" aria-label={`Change ${row.name}`} onClick={() => setAsked({ what: "change", row })}>Change</button>
      <button type="button" class="quiet" aria-label={`${row.disabled ? "Enable" : "Disable"} ${row.name}`} onClick={() => void toggle(row)}>
        {row.disabled ? "Enable" : "Disable"}
      </button>
      <button type="button" class="quiet" aria-label={`Revoke ${row.name}`} onClick={() => setAsked({ what: "revoke", row })}>Revoke</button>
    </span>
  ));
  return (
    <section aria-label="Keys">
      <div class="row section-head">
        <p class="lead">Programs send one of these to get answers. What a key spends is counted in the ledger.</p>
        <span class="spring" />
        {data && <button type="button" class="primary" onClick={() => setAsked({ what: "create" })}>Create a key</button>}
      </div>
      <Trouble problem={problem ?? toggling.problem} />
      {data && <DataTable caption="Keys" columns={columns} rows={data.data} nothing="There are no keys yet." />}
      {data && <KeyPages paging={paging} num={data.data.length} />}
      {asked?.what === "create" && <KeyForm row={null} onClose={close} onCreated={(secret, name) => setAsked({ what: "secret", secret, name })} />}
      {asked?.what === "change" && <KeyForm row={asked.row} onClose={close} />}
      {asked?.what === "secret" && <NewSecret secret={asked.secret} name={asked.name} onClose={close} />}
      {asked?.what === "revoke" && (
        <Confirm title={`Revoke ${asked.row.name}?`} action="Revoke it" work={() => manage("DELETE", `/api/v1/keys/${asked.row.hash}`)} onClose={close}>
          <p>Requests with this key are refused from now on, and those that run are ended. It can't be brought back; disabling a key can.</p>
        </Confirm>
      )}
    </section>
  );
}

function columnsOf(actions: (row: KeyRow) => ComponentChildren): Column<KeyRow>[] {
  return [
    { title: "Name", value: (row) => row.name, show: (row) => <>{row.name}<br /><code class="faint">{row.label}</code></> },
    { title: "State", value: stateOf, show: (row) => <span class="state" data-state={stateOf(row)}>{stateOf(row)}</span> },
    { title: "Spent", kind: "number", value: (row) => row.usage, show: (row) => money(row.usage) },
    { title: "Limit", value: (row) => row.limit, show: limitOf },
    { title: "May use", value: (row) => row.allowed_models.join(", ") || "all models" },
    { title: "Per minute", value: (row) => row.requests_per_minute, show: perMinute },
    { title: "Last used", value: (row) => row.last_used_at, show: (row) => (row.last_used_at ? moment(row.last_used_at) : "never") },
    { title: "What to do", value: () => null, show: actions },
  ];
}

export function stateOf(row: KeyRow): string {
  if (row.disabled) return "disabled";
  return row.expires_at && Date.parse(row.expires_at) <= Date.now() ? "expired" : "active";
}

function limitOf(row: KeyRow): string {
  return row.limit === null ? "none" : `${money(row.limit)}${row.limit_reset ? ` ${row.limit_reset}` : " in all"}`;
}

function perMinute({ requests_per_minute: requests, tokens_per_minute: tokens }: KeyRow): string {
  const parts = [requests && `${requests} requests`, tokens && `${tokens.toLocaleString("en")} tokens`];
  return parts.filter(Boolean).join(", ") || "no limit";
}
