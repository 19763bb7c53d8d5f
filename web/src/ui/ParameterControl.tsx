// One parameter with its range and default, both from the server's document. Empty means default.

import { useState } from "preact/hooks";
import type { Model } from "../api/models";
import { type Parameter, whyDisabled, whyWrong } from "../api/parameters";
import { parsed } from "../chat/body";
import { changeSettings, thread } from "../chat/store";
import type { ParameterValue } from "../chat/types";

export function ParameterControl({ parameter, model }: { parameter: Parameter; model: Model | undefined }) {
  const { name, kind, help } = parameter;
  const reason = whyDisabled(parameter, model);
  const value = thread.value.parameters[name];
  const id = `parameter-${name}`;
  const set = (next: ParameterValue | undefined) => {
    const { [name]: _old, ...others } = thread.value.parameters;
    changeSettings({ parameters: next === undefined ? others : { ...others, [name]: next } });
  };
  const properties = { parameter, id, value, set, isDisabled: reason !== null, fallback: fallbackOf(parameter, model) };
  return (
    <div class="parameter" data-disabled={reason !== null} data-set={value !== undefined}>
      <label for={id} title={help}>{name} <span class="faint">{range(parameter)}</span></label>
      {kind === "boolean" ? <Switch {...properties} />
        : kind === "strings" ? <Lines {...properties} />
        : kind === "map" ? <Json {...properties} />
        : <NumberControl {...properties} />}
      <p class={reason ? "faint help" : "faint help on-focus"} id={`${id}-help`}>{reason ?? help}</p>
    </div>
  );
}

interface ControlProperties {
  parameter: Parameter;
  id: string;
  value: ParameterValue | undefined;
  set: (value: ParameterValue | undefined) => void;
  isDisabled: boolean;
  fallback: string;
}

function NumberControl({ parameter, id, value, set, isDisabled, fallback }: ControlProperties) {
  const [wrong, setWrong] = useState<{ text: string; reason: string } | null>(null);
  const { minimum, maximum, kind } = parameter;
  const hasSlider = minimum !== undefined && maximum !== undefined && maximum - minimum <= 200;
  const take = (text: string) => {
    const reason = text === "" ? null : whyWrong(parameter, Number(text));
    setWrong(reason ? { text, reason } : null);
    if (text === "") set(undefined);
    else if (!reason) set(Number(text));
  };
  const step = kind === "integer" ? 1 : 0.01;
  const shown = typeof value === "number" ? String(value) : "";
  return (
    <>
      <input
        id={id} type="number" inputMode="decimal" min={minimum} max={maximum} step={kind === "integer" ? 1 : "any"}
        value={wrong?.text ?? shown} placeholder={fallback} disabled={isDisabled}
        aria-describedby={`${id}-help`} aria-invalid={wrong !== null} onInput={(event) => take(event.currentTarget.value)}
      />
      {hasSlider && (
        <input
          type="range" aria-label={`${parameter.name}, slider`} min={minimum} max={maximum} step={step} disabled={isDisabled}
          value={typeof value === "number" ? value : Number.isFinite(Number(fallback)) ? Number(fallback) : minimum}
          onInput={(event) => take(event.currentTarget.value)}
        />
      )}
      {wrong && <p class="mistake" role="alert">{wrong.reason}</p>}
    </>
  );
}

function Switch({ id, value, set, isDisabled }: ControlProperties) {
  const shown = value === undefined ? "" : String(value);
  return (
    <select
      id={id} value={shown} disabled={isDisabled} aria-describedby={`${id}-help`}
      onChange={({ currentTarget }) => set(currentTarget.value === "" ? undefined : currentTarget.value === "true")}
    >
      <option value="">default</option>
      <option value="true">yes</option>
      <option value="false">no</option>
    </select>
  );
}

function Lines({ id, value, set, isDisabled }: ControlProperties) {
  const text = Array.isArray(value) ? value.join("\n") : "";
  return (
    <textarea
      id={id} rows={2} value={text} placeholder="none" disabled={isDisabled} aria-describedby={`${id}-help`}
      onInput={({ currentTarget }) => set(currentTarget.value === "" ? undefined : currentTarget.value.split("\n"))}
    />
  );
}

function Json({ id, value, set, isDisabled }: ControlProperties) {
  const text = String(value ?? "");
  const { mistake } = parsed(text);
  return (
    <>
      <textarea
        id={id} rows={1} value={text} placeholder="{}" disabled={isDisabled} spellcheck={false}
        aria-describedby={`${id}-help`} aria-invalid={mistake !== null}
        onInput={({ currentTarget }) => set(currentTarget.value || undefined)}
      />
      {mistake && <p class="mistake" role="status">{mistake}</p>}
    </>
  );
}

function fallbackOf({ name, fallback }: Parameter, model: Model | undefined): string {
  const own = model?.default_parameters?.[name];
  return own !== undefined && own !== null ? String(own) : fallback !== undefined ? String(fallback) : "default";
}

/** The range in the fewest signs; limits that only keep numbers within 32 bits aren't one. */
function range({ minimum, maximum, isOpenBelow }: Parameter): string {
  if (minimum === undefined || Math.abs(minimum) > 1e9) return "";
  const isBounded = maximum !== undefined && maximum < 1e5;
  if (!isBounded) return isOpenBelow ? `> ${minimum}` : `≥ ${minimum}`;
  return isOpenBelow ? `> ${minimum} … ${maximum}` : `${minimum} … ${maximum}`;
}
