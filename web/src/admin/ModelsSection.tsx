// The models of this machine: which is loaded, what is here, and what is being fetched or loaded.

import { useState } from "preact/hooks";
import { loadModels } from "../api/models";
import { type Column, DataTable } from "../ui/DataTable";
import { manage } from "./access";
import { Confirm } from "./Confirm";
import { EngineCard } from "./EngineCard";
import { bytes } from "./format";
import { Jobs } from "./Jobs";
import { PullForm } from "./PullForm";
import { Trouble } from "./Trouble";
import type { ModelRow, OwnModels } from "./types";
import { useAction } from "./useAction";
import { useManaged } from "./useManaged";

const PATH = "/outrider/v1/models";

type Asked = { what: "replace" | "delete" | "unload"; name: string };

export function ModelsSection() {
  const [isQuick, setQuick] = useState(true);
  const { data, problem, reload } = useManaged<OwnModels>(PATH, isQuick ? 1000 : 5000);
  const [asked, setAsked] = useState<Asked | null>(null);
  const { problem: failure, run } = useAction();
  const isWorking = data?.jobs.some(({ state }) => state === "running") ?? true;
  if (isWorking !== isQuick) setQuick(isWorking);
  const close = () => {
    setAsked(null);
    reload();
    void loadModels(); // the playground offers what is there
  };
  const begin = (what: string, body?: unknown) => manage("POST", `${PATH}/${what}`, body);
  const start = (what: string, body?: unknown) => void run(() => begin(what, body)).then(reload);
  const load = (model: string) => (data?.engine.model ? setAsked({ what: "replace", name: model }) : start("load", { model }));
  const columns = data && columnsOf({ data, load, pull: (model) => start("pull", { model }), remove: (name) => setAsked({ what: "delete", name }) });
  return (
    <section aria-label="Models">
      <Trouble problem={problem ?? failure} />
      {data && <EngineCard engine={data.engine} freeBytes={data.free_memory_bytes} onUnload={() => setAsked({ what: "unload", name: data.engine.model ?? "" })} />}
      {data && <Jobs jobs={data.jobs} onChange={reload} />}
      {data && columns && <DataTable caption="Models of this machine" columns={columns} rows={data.data} />}
      {data && <PullForm freeBytes={data.free_disk_bytes} onPull={(model) => start("pull", { model })} />}
      {asked && <Question asked={asked} loaded={data?.engine.model ?? ""} begin={begin} onClose={close} />}
    </section>
  );
}

function Question({ asked: { what, name }, loaded, begin, onClose }: {
  asked: Asked; loaded: string; begin: (what: string, body?: unknown) => Promise<unknown>; onClose: () => void;
}) {
  const leaving = <>New requests for <b>{loaded}</b> are refused at once. Those that run have the drain time-out to finish, items of batches for it fail.</>;
  if (what === "unload") {
    return <Confirm title={`Unload ${name}?`} action="Unload it" work={() => begin("unload")} onClose={onClose}><p>{leaving}</p></Confirm>;
  }
  if (what === "replace") {
    return (
      <Confirm title={`Load ${name} instead?`} action="Load it" work={() => begin("load", { model: name, replace: true })} onClose={onClose}>
        <p>There is one engine. It is checked first whether {name} fits into memory. {leaving}</p>
      </Confirm>
    );
  }
  return (
    <Confirm title={`Delete ${name}?`} action="Delete it" work={() => begin("delete", { model: name })} onClose={onClose}>
      <p>Its files and packed weights are removed from this machine. It can be pulled again.</p>
    </Confirm>
  );
}

interface Doing {
  data: OwnModels;
  load: (name: string) => void;
  pull: (name: string) => void;
  remove: (name: string) => void;
}

function columnsOf({ data, load, pull, remove }: Doing): Column<ModelRow>[] {
  const isBusy = data.jobs.some(({ state, kind }) => state === "running" && kind !== "pull");
  const isPulling = (name: string) => data.jobs.some(({ state, kind, model }) => state === "running" && kind === "pull" && model === name);
  return [
    { title: "Model", value: (row) => row.name },
    { title: "State", value: stateOf, show: (row) => <span class="state" data-state={row.is_loaded ? "active" : undefined}>{stateOf(row)}</span> },
    { title: "For", value: (row) => (row.kind === "chat" ? "chat" : "embeddings") },
    { title: "Format", value: (row) => row.format },
    { title: "Size", kind: "number", value: (row) => row.size_bytes, show: (row) => (row.size_bytes === null ? "–" : bytes(row.size_bytes)) },
    { title: "Packed", kind: "number", value: (row) => row.packed_bytes, show: (row) => (row.packed_bytes ? bytes(row.packed_bytes) : "–") },
    { title: "Licence", value: (row) => row.licence },
    {
      title: "What to do", value: () => null,
      show: (row) => (
        <span class="actions">
          {!row.is_pulled && row.size_bytes !== null && <Doer label="Pull" name={row.name} isOff={isPulling(row.name)} onClick={pull} />}
          {(row.is_pulled || row.size_bytes === null) && row.kind === "chat" && !row.is_loaded && <Doer label="Load" name={row.name} isOff={isBusy} onClick={load} />}
          {row.is_pulled && !row.is_loaded && <Doer label="Delete" name={row.name} isOff={isBusy} onClick={remove} />}
        </span>
      ),
    },
  ];
}

function Doer({ label, name, isOff, onClick }: { label: string; name: string; isOff: boolean; onClick: (name: string) => void }) {
  return <button type="button" class="quiet" aria-label={`${label} ${name}`} disabled={isOff} onClick={() => onClick(name)}>{label}</button>;
}

function stateOf(row: ModelRow): string {
  if (row.is_loaded) return "loaded";
  return row.is_pulled || row.size_bytes === null ? "here" : "not here";
}
