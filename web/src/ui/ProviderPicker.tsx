// Chooses the host that is asked, where a model has several: panes compare hosts as they do models.

import { changeSettings } from "../chat/store";
import { useJson } from "./useJson";

interface Endpoints {
  data: { endpoints: { tag: string; provider_name: string }[] };
}

export function ProviderPicker({ model, value }: { model: string; value: string }) {
  const path = model && `/api/v1/models/${model.split("/").map(encodeURIComponent).join("/")}/endpoints`;
  const { data } = useJson<Endpoints>(path || null);
  const hosts = new Map(data?.data.endpoints.map(({ tag, provider_name }) => [tag.split("/")[0]!, provider_name]));
  if (hosts.size < 2 && !value) return null;
  return (
    <label class="field">
      <span>Provider</span>
      <select value={value} onChange={(event) => changeSettings({ provider: event.currentTarget.value })}>
        <option value="">The router chooses</option>
        {value && !hosts.has(value) && <option value={value}>{value} (doesn't have this model)</option>}
        {[...hosts].map(([slug, name]) => <option key={slug} value={slug}>{name}</option>)}
      </select>
    </label>
  );
}
