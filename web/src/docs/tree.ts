// A JSON Schema in words: the type of a field, what holds it in bounds, and the objects that stand
// inside of it. References are followed one step at a time, so a schema may hold itself.

import { type Document, resolved, type Schema } from "../api/document";

export interface Field {
  name: string;
  isRequired: boolean;
  schema: Schema;
}

/** An object inside of a schema, by the name it has in the document. */
export interface Shape {
  name: string;
  schema: Schema;
}

const MAX_DEPTH = 8; // of arrays of unions of arrays …
const MAX_VALUES = 24; // of an enumeration, before it is cut short

export function fieldsOf(schema: Schema): Field[] {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).map(([name, one]) => ({ name, schema: one, isRequired: required.has(name) }));
}

/** Fields that do something, and those that the server refuses or passes over. */
export function sorted(fields: Field[]): { active: Field[]; idle: Field[] } {
  const isIdle = ({ schema }: Field) => /^(Inert|Ignored|Refused)/.test(schema.description ?? "");
  const required = fields.filter((field) => field.isRequired && !isIdle(field));
  const others = fields.filter((field) => !field.isRequired && !isIdle(field));
  return { active: [...required, ...others], idle: fields.filter(isIdle) };
}

/** The type in words, such as `array of string or ContentPart`. */
export function typeOf(document: Document, schema: Schema | boolean | undefined, depth = 0): string {
  if (schema === undefined || typeof schema === "boolean" || depth > MAX_DEPTH) return "any";
  if (schema.$ref) {
    const target = resolved(document, schema);
    return target.type === "object" || target.properties ? nameOf(schema, target) : typeOf(document, target, depth + 1);
  }
  const forms = schema.anyOf ?? schema.oneOf;
  if (forms) return unique(forms.map((form) => typeOf(document, form, depth + 1))).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return valuesOf(schema.enum);
  const type = Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type;
  if (type === "array") return `array of ${typeOf(document, schema.items, depth + 1)}`;
  if (type !== "object") return type ?? "any";
  const { additionalProperties: more } = schema;
  if (!schema.properties && typeof more === "object") return `map to ${typeOf(document, more, depth + 1)}`;
  return schema.title ?? "object";
}

function valuesOf(values: unknown[]): string {
  const shown = values.slice(0, MAX_VALUES).map((value) => JSON.stringify(value)).join(" or ");
  return values.length > MAX_VALUES ? `${shown} or ${values.length - MAX_VALUES} others` : shown;
}

function nameOf(reference: Schema, target: Schema): string {
  return target.title ?? reference.$ref?.split("/").pop() ?? "object";
}

function unique(words: string[]): string[] {
  return [...new Set(words)];
}

/** What holds a value in bounds, and what counts where it is left out. */
export function limitsOf(schema: Schema): string[] {
  const found = [schema, ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].flatMap(ownLimits);
  const fallback = schema["x-outrider-default"] ?? schema.default;
  if (fallback !== undefined && fallback !== null) found.push(`default ${JSON.stringify(fallback)}`);
  return unique(found);
}

function ownLimits(schema: Schema): string[] {
  // A bound of 64 bits loses digits as JSON's number, and says no more than the type does.
  const kept = (bound: number | undefined) => (bound !== undefined && Math.abs(bound) <= Number.MAX_SAFE_INTEGER ? bound : undefined);
  const { exclusiveMinimum: over, exclusiveMaximum: under } = schema;
  const [minimum, maximum] = [kept(schema.minimum), kept(schema.maximum)];
  const found: string[] = [];
  if (minimum !== undefined && maximum !== undefined) found.push(`${minimum} to ${maximum}`);
  else if (minimum !== undefined) found.push(`at least ${minimum}`);
  else if (maximum !== undefined) found.push(`at most ${maximum}`);
  if (over !== undefined) found.push(`more than ${over}`);
  if (under !== undefined) found.push(`less than ${under}`);
  if (schema.minLength !== undefined) found.push(`at least ${schema.minLength} characters`);
  if (schema.maxLength !== undefined) found.push(`at most ${schema.maxLength} characters`);
  if (schema.minItems !== undefined) found.push(`at least ${schema.minItems} items`);
  if (schema.maxItems !== undefined) found.push(`at most ${schema.maxItems} items`);
  if (schema.pattern !== undefined) found.push(`matches ${schema.pattern}`);
  if (schema.format !== undefined) found.push(schema.format);
  return found;
}

/** The objects with fields that a schema is, or holds in its forms, items and values. */
export function shapesOf(document: Document, schema: Schema | boolean | undefined, depth = 0): Shape[] {
  if (schema === undefined || typeof schema === "boolean" || depth > MAX_DEPTH) return [];
  const target = resolved(document, schema);
  if (Object.keys(target.properties ?? {}).length) return [{ name: nameOf(schema, target), schema: target }];
  const inner = [...(target.anyOf ?? []), ...(target.oneOf ?? []), target.items, target.additionalProperties];
  const found = inner.flatMap((one) => shapesOf(document, one, depth + 1));
  return found.filter(({ schema: shape }, at) => found.findIndex((other) => other.schema === shape) === at);
}
