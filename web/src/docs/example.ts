// A body that the server takes: what the schema demands, with values that mean something where the
// field is a known one. A starting point for who tries an operation, shown as an example.

import { type Document, resolved, type Schema } from "../api/document";

const MAX_DEPTH = 6;
const MAX_TOKENS = 64; // a first try shall be short
const QUESTION = "Why is the sky blue?";

// What a field of this name gets, in a body that has it.
const KNOWN: Record<string, (model: string) => unknown> = {
  model: (model) => model,
  messages: () => [{ role: "user", content: QUESTION }],
  prompt: () => "Rivers flow",
  input: () => ["The river is wide.", "A broad stream."],
  data: () => ({ messages: [{ role: "user", content: QUESTION }], max_tokens: MAX_TOKENS }),
  endpoint: () => "/v1/chat/completions",
  completion_window: () => "24h",
  provider: () => "local",
};
const QUESTIONS = ["messages", "prompt", "input", "data"]; // one of them is what is asked

export function exampleBody(document: Document, schema: Schema, model: string): unknown {
  const target = oneForm(document, schema);
  const body = exampleOf(document, target, model, 0);
  if (typeof body !== "object" || body === null || Array.isArray(body)) return body;
  // Types that are shared by several forms demand less than the server does.
  const has = (name: string) => name in (target.properties ?? {});
  const question = QUESTIONS.find(has);
  const added = [...(question && has("model") ? ["model"] : []), ...(question && !QUESTIONS.some((name) => name in body) ? [question] : [])];
  const known = Object.fromEntries(added.map((name) => [name, KNOWN[name]!(model)]));
  return { ...known, ...body, ...(has("max_tokens") ? { max_tokens: MAX_TOKENS } : {}) };
}

/** Of several forms that of a conversation, or the first. */
function oneForm(document: Document, schema: Schema): Schema {
  const target = resolved(document, schema);
  const forms = (target.anyOf ?? target.oneOf)?.map((form) => resolved(document, form));
  return forms?.find(({ properties }) => properties && "messages" in properties) ?? forms?.[0] ?? target;
}

export function exampleOf(document: Document, schema: Schema, model: string, depth: number): unknown {
  const target = resolved(document, schema);
  if (target.example !== undefined) return target.example;
  if (target.examples?.length) return target.examples[0];
  if (target.const !== undefined) return target.const;
  if (target.enum?.length) return target.enum[0];
  if (target.default !== undefined && target.default !== null) return target.default;
  const forms = target.anyOf ?? target.oneOf;
  if (forms?.length) return exampleOf(document, forms[0]!, model, depth + 1);
  switch (Array.isArray(target.type) ? target.type[0] : target.type) {
    case "object":
      return depth > MAX_DEPTH ? {} : requiredFields(document, target, model, depth);
    case "array":
      return depth > MAX_DEPTH || typeof target.items !== "object" ? [] : [exampleOf(document, target.items, model, depth + 1)];
    case "integer":
    case "number":
      return target.minimum ?? (target.exclusiveMinimum ?? 0) + 1;
    case "boolean":
      return false;
    case "null":
      return null;
    default:
      return "text";
  }
}

function requiredFields(document: Document, schema: Schema, model: string, depth: number): object {
  const { properties = {}, required = [] } = schema;
  return Object.fromEntries(required.map((name) => {
    const known = depth === 0 ? KNOWN[name] : undefined;
    return [name, known ? known(model) : exampleOf(document, properties[name] ?? {}, model, depth + 1)];
  }));
}
