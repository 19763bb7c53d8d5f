// Which requests are shown: by time, outcome, model, provider and key.

import type { EndpointList, KeyRow } from "./types";
import { useKeyPages } from "./KeyPages";
import { useManaged } from "./useManaged";

export const NO_FILTER = { hours: "", status: "", model: "", provider: "", key: "" };
export type Filter = typeof NO_FILTER;

const TIMES: [string, string][] = [["", "all time"], ["1", "the last hour"], ["24", "the last day"], ["168", "the last week"], ["720", "the last 30 days"]];
const STATUSES: [string, string][] = [["", "any"], ["ok", "answered"], ["refused", "refused (4xx)"], ["failed", "failed (5xx)"]];

/** Give the query; times are cut to minutes, so that the same filter is the same address. */
export function queryOf({ hours, ...rest }: Filter, now = Date.now()): string {
  const query = new URLSearchParams({ limit: "50" });
  if (hours) query.set("since", new Date(Math.floor(now / 60_000) * 60_000 - Number(hours) * 3_600_000).toISOString());
  for (const [name, value] of Object.entries(rest)) if (value) query.set(name, value);
  return query.toString();
}

export function RequestFilters({ filter, onChange }: { filter: Filter; onChange: (part: Partial<Filter>) => void }) {
  const endpoints = useManaged<EndpointList>("/outrider/v1/providers").data?.data ?? [];
  const keys = useManaged<{ data: KeyRow[] }>(useKeyPages().path).data?.data ?? [];
  const unique = (names: string[]): [string, string][] => [["", "any"], ...[...new Set(names)].map((name): [string, string] => [name, name])];
  return (
    <div class="filters" role="group" aria-label="Filters">
      <Choice label="Time" value={filter.hours} options={TIMES} onChange={(hours) => onChange({ hours })} />
      <Choice label="Outcome" value={filter.status} options={STATUSES} onChange={(status) => onChange({ status })} />
      <Choice label="Model" value={filter.model} options={unique(endpoints.map(({ model }) => model))} onChange={(model) => onChange({ model })} />
      <Choice label="Provider" value={filter.provider} options={unique(endpoints.map(({ provider }) => provider))} onChange={(provider) => onChange({ provider })} />
      {keys.length > 0 && (
        <Choice label="Key" value={filter.key} options={[["", "any"], ...keys.map(({ hash, name }): [string, string] => [hash, name])]} onChange={(key) => onChange({ key })} />
      )}
    </div>
  );
}

function Choice({ label, value, options, onChange }: {
  label: string; value: string; options: [string, string][]; onChange: (value: string) => void;
}) {
  return (
    <label class="field">
      <span>{label}</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([name, text]) => <option key={name} value={name}>{text}</option>)}
      </select>
    </label>
  );
}
