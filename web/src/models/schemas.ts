// The JSON Schemas of a wire's requests and answers, each complete in itself, out of the server's
// document. Nothing is written by hand, so they are what the server checks.

import type { Document, Schema } from "../api/document";
import type { Model } from "../api/models";
import { PATHS, type Wire, WIRES } from "../code/samples";
import { makesEmbeddings } from "./types";

const PREFIX = "#/components/schemas/";

export type Side = "input" | "output" | "stream";

export const SIDES: Record<Side, string> = { input: "Input", output: "Output", stream: "Streamed output" };

/** Where a model is asked, by wire. */
export function pathsOf(model: Model): Partial<Record<Wire, string>> {
  if (makesEmbeddings(model)) return { openai: "/v1/embeddings", openrouter: "/api/v1/embeddings" };
  return { ...PATHS, dataoorts: "/api/v1" };
}

export function wiresOf(model: Model): Record<string, string> {
  return Object.fromEntries(Object.keys(pathsOf(model)).map((wire) => [wire, WIRES[wire as Wire]]));
}

const MEDIA: Record<Exclude<Side, "input">, string> = { output: "application/json", stream: "text/event-stream" };

export function schemaOf(document: Document, path: string, side: Side): object | null {
  const operation = document.paths[path]?.post;
  const content = side === "input" ? operation?.requestBody?.content : operation?.responses?.["200"]?.content;
  const schema = content?.[side === "input" ? "application/json" : MEDIA[side]]?.schema;
  return schema ? whole(document, schema) : null;
}

/** Take along what a schema refers to. */
function whole(document: Document, schema: Schema): object {
  const found = new Map<string, unknown>();
  const own = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(own);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, name === "$ref" ? refer(part) : own(part)]));
  };
  const refer = (reference: unknown): unknown => {
    if (typeof reference !== "string" || !reference.startsWith(PREFIX)) return reference;
    const name = reference.slice(PREFIX.length);
    if (!found.has(name)) {
      found.set(name, null); // before its parts, since a schema may refer to itself
      found.set(name, own(document.components.schemas[name] ?? {}));
    }
    return `#/$defs/${name}`;
  };
  const body = own(schema) as object;
  const definitions = Object.fromEntries([...found].sort(([a], [b]) => a.localeCompare(b)));
  const head = { $schema: "https://json-schema.org/draft/2020-12/schema" };
  return found.size ? { ...head, ...body, $defs: definitions } : { ...head, ...body };
}
