// Everybody's batches and how far they are; those that haven't ended can be cancelled.

import { useState } from "preact/hooks";
import { type Column, DataTable } from "../ui/DataTable";
import { manage } from "./access";
import { Confirm } from "./Confirm";
import { moment } from "./format";
import { Trouble } from "./Trouble";
import type { BatchRow } from "./types";
import { useAction } from "./useAction";
import { useManaged } from "./useManaged";

const PATH = "/outrider/v1/batches";
const CANCELLABLE = ["validating", "in_progress"];

interface Page {
  data: BatchRow[];
  has_more: boolean;
}

export function BatchesSection() {
  const [isUnfinished, setUnfinished] = useState(false);
  const [older, setOlder] = useState<Page | null>(null);
  const [cancelled, setCancelled] = useState<BatchRow | null>(null);
  const { isBusy, problem: failure, run } = useAction();
  const query = `limit=50${isUnfinished ? "&state=unfinished" : ""}`;
  const { data, problem, reload } = useManaged<Page>(`${PATH}?${query}`, 3000);
  const rows = [...(data?.data ?? []), ...(older?.data ?? [])];
  const hasMore = (older ?? data)?.has_more ?? false;
  const more = () => run(async () => {
    const page = await manage<Page>("GET", `${PATH}?${query}&after=${rows[rows.length - 1]!.id}`);
    setOlder({ data: [...(older?.data ?? []), ...page.data], has_more: page.has_more });
  });
  return (
    <section aria-label="Batches">
      <p class="lead">Requests that were handed in as files, or queued on Workers AI's wire. They run when nobody waits.</p>
      <label class="check">
        <input type="checkbox" checked={isUnfinished} onChange={(event) => { setOlder(null); setUnfinished(event.currentTarget.checked); }} />
        Only those that haven't ended
      </label>
      <Trouble problem={problem ?? failure} />
      {data && <DataTable caption="Batches" columns={columnsOf(setCancelled)} rows={rows} nothing="There are no batches." />}
      {hasMore && <div class="row pager"><button type="button" disabled={isBusy} onClick={() => void more()}>Show older ones</button></div>}
      {cancelled && (
        <Confirm
          title="Cancel this batch?" action="Cancel the batch" onClose={() => { setCancelled(null); reload(); }}
          work={() => manage("POST", `${PATH}/${encodeURIComponent(cancelled.id)}/cancel`)}
        >
          <p>What runs of <code>{cancelled.id}</code> is stopped and what waits is not begun. Answers that are there stay with its owner.</p>
        </Confirm>
      )}
    </section>
  );
}

function columnsOf(cancel: (row: BatchRow) => void): Column<BatchRow>[] {
  return [
    { title: "Batch", value: (row) => row.id, show: (row) => <code>{row.id}</code> },
    { title: "State", value: (row) => row.status, show: (row) => <span class="state" data-state={toneOf(row)}>{row.status.replace("_", " ")}</span> },
    { title: "Done", kind: "number", value: (row) => row.num_completed + row.num_failed, show: Done },
    { title: "Failed", kind: "number", value: (row) => row.num_failed },
    { title: "Key", value: (row) => row.key_name ?? row.key, show: (row) => row.key_name ?? (row.key ? <code>{row.key.slice(0, 12)}</code> : "–") },
    { title: "For", value: (row) => row.model ?? row.endpoint },
    { title: "Created", value: (row) => row.created_at, show: (row) => moment(row.created_at) },
    { title: "Ended", value: (row) => row.ended_at, show: (row) => (row.ended_at ? moment(row.ended_at) : "–") },
    {
      title: "What to do", value: () => null,
      show: (row) => CANCELLABLE.includes(row.status)
        ? <button type="button" class="quiet" aria-label={`Cancel ${row.id}`} onClick={() => cancel(row)}>Cancel</button> : null,
    },
  ];
}

function Done({ num_completed: good, num_failed: failed, num_requests: all, id }: BatchRow) {
  return (
    <>
      <progress aria-label={`Progress of ${id}`} max={all || 1} value={good + failed} /> {good + failed} of {all}
    </>
  );
}

function toneOf({ status }: BatchRow): string {
  if (status === "completed") return "active";
  return ["failed", "expired"].includes(status) ? "failed" : "waiting";
}
