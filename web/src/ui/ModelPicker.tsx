// Chooses one of the served models. A name that is no longer served stays visible, and says so.

import { models } from "../api/models";

export function ModelPicker({ value, onChange, label }: { value: string; onChange: (model: string) => void; label: string }) {
  const isServed = models.value.some(({ id }) => id === value);
  return (
    <select class="model-picker" aria-label={label} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
      {!isServed && <option value={value}>{value ? `${value} (not served)` : "No model"}</option>}
      {models.value.map(({ id }) => <option key={id} value={id}>{id}</option>)}
    </select>
  );
}
