// What a request for a model may set, with ranges and defaults as the server checks them.

import type { Model } from "../api/models";
import { type Parameter, parameters } from "../api/parameters";
import { type Column, DataTable } from "../ui/DataTable";

const KINDS: Record<Parameter["kind"], string> = {
  number: "number", integer: "whole number", boolean: "yes or no", strings: "texts", map: "object",
};
/** What takes more than a value, and so has no range. */
const OTHERS: Record<string, string> = {
  tools: "Functions that the model may call.",
  tool_choice: "Whether it has to call one, and which.",
  response_format: "Holds the answer to JSON, or to a JSON Schema.",
  structured_outputs: "Answers are held to a schema, token by token.",
};

interface Row {
  name: string;
  kind: string;
  range: string;
  fallback: string;
  help: string;
}

const COLUMNS: Column<Row>[] = [
  { title: "Parameter", value: (row) => row.name, show: (row) => <code>{row.name}</code> },
  { title: "Type", value: (row) => row.kind },
  { title: "Range", value: (row) => row.range },
  { title: "Default", value: (row) => row.fallback },
  { title: "What it does", value: (row) => row.help },
];

export function ParameterTable({ model }: { model: Model }) {
  const supported = new Set(model.supported_parameters);
  const known = parameters.value.filter(({ name }) => supported.has(name));
  const rows = [
    ...known.map((parameter) => rowOf(parameter, model)),
    ...Object.entries(OTHERS).filter(([name]) => supported.has(name))
      .map(([name, help]) => ({ name, kind: "object", range: "–", fallback: "–", help })),
  ];
  return (
    <section>
      <h2>Parameters</h2>
      <DataTable caption="Parameters of a request" columns={COLUMNS} rows={rows} nothing="The server's description of its parameters couldn't be loaded." />
      <p class="faint">Out of the types that check requests; the names are OpenRouter's, each wire's own stand in its schema below.</p>
    </section>
  );
}

function rowOf(parameter: Parameter, model: Model): Row {
  const { name, kind, help } = parameter;
  const own = model.default_parameters?.[name] ?? null;
  const fallback = own === null ? parameter.fallback?.toString() ?? "–" : `${own} (the model's own)`;
  return { name, kind: KINDS[kind], range: rangeOf(parameter), fallback, help };
}

function rangeOf({ kind, minimum, maximum, isOpenBelow }: Parameter): string {
  if (minimum !== undefined && !Number.isSafeInteger(minimum) && kind === "integer") return "any 64-bit number";
  if (minimum === undefined) return maximum === undefined ? "–" : `up to ${maximum}`;
  const from = isOpenBelow ? `more than ${minimum}` : `${minimum}`;
  return maximum === undefined ? `${from} and up` : `${from} to ${maximum}`;
}
