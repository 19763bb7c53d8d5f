// The server's own description of its API. Fetched once; read by the panel of parameters, the samples
// of code and the reference. Draws nothing and keeps no state of the page.

export interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  format?: string;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  $ref?: string;
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  example?: unknown;
  examples?: unknown[];
  minimum?: number;
  exclusiveMinimum?: number;
  maximum?: number;
  exclusiveMaximum?: number;
  multipleOf?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  minItems?: number;
  maxItems?: number;
  items?: Schema | boolean;
  prefixItems?: Schema[];
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  required?: string[];
  discriminator?: { propertyName: string; mapping?: Record<string, string> };
  "x-outrider-default"?: number;
}

export interface Content {
  schema?: Schema;
  example?: unknown;
  examples?: Record<string, { value?: unknown }>;
}

export interface Answer {
  description?: string;
  content?: Record<string, Content>;
}

export interface ParameterOf {
  name: string;
  in: string;
  required?: boolean;
  description?: string;
  schema?: Schema;
}

export interface OperationOf {
  summary?: string;
  description?: string;
  operationId?: string;
  tags?: string[];
  parameters?: ParameterOf[];
  requestBody?: { required?: boolean; content: Record<string, Content> };
  responses?: Record<string, Answer>;
  security?: object[];
}

export interface Document {
  info?: { title?: string; version?: string; description?: string };
  paths: Record<string, Record<string, OperationOf>>;
  components: { schemas: Record<string, Schema> };
}

let loading: Promise<Document> | undefined;

export function loadDocument(): Promise<Document> {
  loading ??= fetchDocument().catch((error: unknown) => {
    loading = undefined; // the next one asks again
    throw error;
  });
  return loading;
}

async function fetchDocument(): Promise<Document> {
  const reply = await fetch("/openapi.json");
  if (!reply.ok) throw new Error(`/openapi.json: HTTP status ${reply.status}`);
  return (await reply.json()) as Document;
}

/** The schema that a reference names; others are given back as they are. */
export function resolved(document: Document, schema: Schema): Schema {
  const name = schema.$ref?.split("/").pop();
  return name ? (document.components.schemas[name] ?? {}) : schema;
}

/** The fields of a path's JSON body; one of several forms has the fields of all of them. */
export function bodyProperties(document: Document, path: string): Record<string, Schema> {
  const schema = document.paths[path]?.post?.requestBody?.content["application/json"]?.schema;
  const forms = schema?.anyOf ?? (schema ? [schema] : []);
  return Object.assign({}, ...forms.map((form) => resolved(document, form).properties ?? {})) as Record<string, Schema>;
}

export function fieldsByPath(document: Document): Record<string, string[]> {
  return Object.fromEntries(
    Object.keys(document.paths).map((path) => [path, Object.keys(bodyProperties(document, path))]),
  );
}
