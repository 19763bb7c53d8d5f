// The body of a request for a thread, exactly as it is sent and as "view code" shows it.

import type { Message, Settings } from "./types";

export interface Body {
  model: string;
  messages: object[];
  [field: string]: unknown;
}

export type Draft<T> = { value: T | null; mistake: string | null };

export function requestBody(settings: Settings, messages: Message[]): Body {
  const body: Body = { model: settings.model, messages: [] };
  if (settings.system.trim()) body.messages.push({ role: "system", content: settings.system });
  body.messages.push(...messages.map(wireMessage));
  for (const [name, value] of Object.entries(settings.parameters)) {
    const read = name === "logit_bias" ? parsed<object>(String(value)).value : value;
    if (read !== null && read !== "") body[name] = read;
  }
  if (settings.provider) body.provider = { only: [settings.provider] };
  if (body.top_logprobs !== undefined) body.logprobs = true;
  const tools = readTools(settings.tools).value;
  if (tools?.length) {
    body.tools = tools;
    if (settings.toolChoice !== "auto") body.tool_choice = toolChoice(settings.toolChoice);
  }
  const schema = settings.isSchemaOn ? parsed<object>(settings.schema).value : null;
  if (schema) {
    body.response_format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
  }
  return body;
}

function toolChoice(choice: string): unknown {
  if (choice === "none" || choice === "required") return choice;
  return { type: "function", function: { name: choice } };
}

export function wireMessage(message: Message): object {
  const { role, text, images, calls, callId } = message;
  if (role === "tool") return { role, tool_call_id: callId, content: text };
  if (role === "assistant") {
    if (calls.length === 0) return { role, content: text };
    const tool_calls = calls.map(({ id, name, arguments: given }) => ({
      id, type: "function", function: { name, arguments: given },
    }));
    return { role, content: text || null, tool_calls };
  }
  if (images.length === 0) return { role, content: text };
  const pictures = images.map(({ url }) => ({ type: "image_url", image_url: { url } }));
  return { role, content: [...pictures, ...(text ? [{ type: "text", text }] : [])] };
}

/** Read JSON that somebody is typing. */
export function parsed<T>(text: string): Draft<T> {
  if (!text.trim()) return { value: null, mistake: null };
  try {
    return { value: JSON.parse(text) as T, mistake: null };
  } catch (error) {
    return { value: null, mistake: place(text, error instanceof Error ? error.message : "") };
  }
}

function place(text: string, message: string): string {
  const position = /position (\d+)/.exec(message)?.[1];
  if (position === undefined) return `Not JSON yet: ${message}`;
  const before = text.slice(0, Number(position)).split("\n");
  const column = (before[before.length - 1]?.length ?? 0) + 1;
  return `Not JSON yet: line ${before.length}, column ${column}.`;
}

/** Read the editor of tools: one tool or a list, each plain or wrapped as on the wire. */
export function readTools(text: string): Draft<object[]> {
  const { value, mistake } = parsed<unknown>(text);
  if (value === null) return { value: null, mistake };
  const tools: object[] = [];
  for (const [index, tool] of (Array.isArray(value) ? value : [value]).entries()) {
    const inner = (tool?.function ?? tool) as { name?: unknown } | null;
    if (typeof inner !== "object" || inner === null || typeof inner.name !== "string") {
      return { value: null, mistake: `Tool ${index + 1} needs a "name".` };
    }
    tools.push({ type: "function", function: inner });
  }
  return { value: tools, mistake: null };
}

export function toolNames(settings: Settings): string[] {
  const tools = readTools(settings.tools).value as { function: { name: string } }[] | null;
  return tools?.map((tool) => tool.function.name) ?? [];
}
