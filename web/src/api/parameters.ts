// The parameters of a request, with ranges and defaults, from the document that the server makes
// out of the types that check a request. Nothing here repeats a limit.

import { signal } from "@preact/signals";
import { CHAT_PATH } from "./chat";
import { bodyProperties, type Document, fieldsByPath as fieldsOf, loadDocument, type Schema } from "./document";
import type { Model } from "./models";

export interface Parameter {
  name: string;
  kind: "number" | "integer" | "boolean" | "strings" | "map";
  minimum?: number;
  maximum?: number;
  isOpenBelow: boolean; // the minimum itself isn't allowed
  fallback?: number; // what counts when neither request nor model say anything
  help: string;
}

/** The document itself, for whoever shows more of it. */
export const apiDocument = signal<Document | null>(null);
export const parameters = signal<Parameter[]>([]);
/** The fields that each path's body may have, for samples of code on other wires. */
export const fieldsByPath = signal<Record<string, string[]>>({});

const HELP: Record<string, string> = {
  temperature: "How freely tokens are chosen; 0 always takes the likeliest.",
  top_p: "Keeps the likeliest tokens that together reach this probability.",
  top_k: "Keeps this many of the likeliest tokens; 0 keeps all.",
  min_p: "Drops tokens below this share of the likeliest one's probability.",
  top_a: "Drops tokens below this times the square of the likeliest one's probability.",
  frequency_penalty: "Makes a token less likely each time it has been used.",
  presence_penalty: "Makes a token less likely once it has been used.",
  repetition_penalty: "Divides the scores of tokens already in prompt or answer.",
  max_tokens: "Ends the answer after this many tokens.",
  seed: "The same seed and prompt give the same answer.",
  stop: "Ends the answer before one of these texts, one a line.",
  logit_bias: "Adds to the scores of tokens by id, as JSON: {\"42\": -5}.",
  logprobs: "Gives the probability of each token, for the view of tokens.",
  top_logprobs: "How many alternatives each token comes with.",
  parallel_tool_calls: "Lets an answer call several tools at once.",
};
// What has a place of its own on the page, or would only change the form of the stream.
const ELSEWHERE = new Set(["n", "stream", "max_completion_tokens"]);

export async function loadParameters(): Promise<void> {
  readDocument(await loadDocument());
}

export function readDocument(document: Document): void {
  apiDocument.value = document;
  fieldsByPath.value = fieldsOf(document);
  const found = new Map<string, Parameter>();
  for (const [name, schema] of Object.entries(bodyProperties(document, CHAT_PATH))) {
    const parameter = ELSEWHERE.has(name) ? null : read(name, schema);
    if (parameter) found.set(name, parameter);
  }
  const known = Object.keys(HELP).flatMap((name) => found.get(name) ?? []);
  parameters.value = [...known, ...[...found.values()].filter(({ name }) => !(name in HELP))];
}

function read(name: string, schema: Schema): Parameter | null {
  // Inert and ignored fields do nothing, so a control for them would mislead.
  if (/^(Inert|Ignored|Refused)/.test(schema.description ?? "")) return null;
  const forms = schema.anyOf ?? [schema];
  const number = forms.find(({ type }) => type === "number" || type === "integer");
  const fallback = schema["x-outrider-default"];
  const base = { name, fallback, help: HELP[name] ?? "", isOpenBelow: false };
  if (number) {
    return {
      ...base,
      kind: number.type as "number" | "integer",
      minimum: number.minimum ?? number.exclusiveMinimum,
      maximum: number.maximum,
      isOpenBelow: number.exclusiveMinimum !== undefined,
    };
  }
  if (forms.some(({ type }) => type === "boolean")) return { ...base, kind: "boolean" };
  if (name === "stop") return { ...base, kind: "strings" };
  if (name === "logit_bias") return { ...base, kind: "map" };
  return null;
}

/** Say why a control is disabled; null while it works. */
export function whyDisabled(parameter: Parameter, model: Model | undefined): string | null {
  if (!model) return "Choose a model first.";
  if (model.supported_parameters.includes(parameter.name)) return null;
  return `${model.id} doesn't take ${parameter.name}.`;
}

/** Say what is wrong with a value; null if the server would take it. */
export function whyWrong(parameter: Parameter, value: number): string | null {
  const { minimum, maximum, isOpenBelow, kind } = parameter;
  if (!Number.isFinite(value)) return "Not a number.";
  if (kind === "integer" && !Number.isInteger(value)) return "A whole number, please.";
  if (minimum !== undefined && (isOpenBelow ? value <= minimum : value < minimum)) {
    return isOpenBelow ? `More than ${minimum}.` : `At least ${minimum}.`;
  }
  if (maximum !== undefined && value > maximum) return `At most ${maximum}.`;
  return null;
}
