// The controls for an operation's parameters and for the fields of a form.

import type { ParameterOf, Schema } from "../api/document";
import { fieldsOf } from "./tree";

export function ParameterFields({ parameters, valueOf, change }: {
  parameters: ParameterOf[]; valueOf: (name: string) => string; change: (name: string, value: string) => void;
}) {
  if (parameters.length === 0) return null;
  return (
    <div class="try-fields">
      {parameters.map(({ name, required, schema = {} }) => (
        <label key={name}>
          <span>{name}{required && <span class="faint"> (required)</span>}</span>
          <Control schema={schema} value={valueOf(name)} change={(value) => change(name, value)} />
        </label>
      ))}
    </div>
  );
}

function Control({ schema, value, change }: { schema: Schema; value: string; change: (value: string) => void }) {
  const choices = schema.enum?.map(String) ?? (schema.type === "boolean" ? ["true", "false"] : null);
  if (!choices) return <input type="text" class="mono" value={value} onInput={(event) => change(event.currentTarget.value)} />;
  return (
    <select value={value} onChange={(event) => change(event.currentTarget.value)}>
      <option value="">–</option>
      {choices.map((choice) => <option key={choice} value={choice}>{choice}</option>)}
    </select>
  );
}

export function FormFields({ schema, change }: { schema: Schema; change: (name: string, value: string | File) => void }) {
  return (
    <div class="try-fields">
      {fieldsOf(schema).map(({ name, schema: field, isRequired }) => (
        <label key={name}>
          <span>{name}{isRequired && <span class="faint"> (required)</span>}</span>
          {field.format === "binary"
            ? <input type="file" onChange={(event) => change(name, event.currentTarget.files?.[0] ?? "")} />
            : <input type="text" class="mono" onInput={(event) => change(name, event.currentTarget.value)} />}
        </label>
      ))}
    </div>
  );
}
