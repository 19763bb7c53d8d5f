// The request of a thread as code: four wires, three languages. Built from the body that is really
// sent; a field that a wire's document doesn't have is left out and named, never approximated.

import type { Body } from "../chat/body";
import { python, shellQuoted, typescript } from "./literals";

export type Wire = "openai" | "openrouter" | "workers-ai" | "dataoorts";
export type Language = "curl" | "python" | "typescript";

export const WIRES: Record<Wire, string> = {
  openai: "OpenAI", openrouter: "OpenRouter", "workers-ai": "Workers AI", dataoorts: "Dataoorts",
};
export const LANGUAGES: Record<Language, string> = { curl: "curl", python: "Python", typescript: "TypeScript" };
/** What each language is called where code gets its colours. */
export const HIGHLIGHTED: Record<Language, string> = { curl: "bash", python: "python", typescript: "typescript" };

const RUN_PATH = "/client/v4/accounts/{account_id}/ai/run/{model}";
export const PATHS: Record<Wire, string> = {
  openai: "/v1/chat/completions",
  openrouter: "/api/v1/chat/completions",
  "workers-ai": RUN_PATH,
  dataoorts: RUN_PATH, // its `data` is what Workers AI takes
};
const ACCOUNT = "local"; // any account will do

export interface Sample {
  code: string;
  omitted: string[];
}

interface Request {
  origin: string;
  model: string;
  fields: Record<string, unknown>; // without the model
}

export function sample(body: Body, wire: Wire, language: Language, origin: string, fieldsByPath: Record<string, string[]>): Sample {
  const { model, ...all } = body;
  const known = fieldsByPath[PATHS[wire]];
  const omitted = known ? Object.keys(all).filter((name) => !known.includes(name)) : [];
  const fields = Object.fromEntries(Object.entries(all).filter(([name]) => !omitted.includes(name)));
  const request = { origin, model, fields };
  return { code: WRITERS[language](request, wire), omitted };
}

const WRITERS: Record<Language, (request: Request, wire: Wire) => string> = {
  curl: writeCurl,
  python: writePython,
  typescript: writeTypescript,
};

function address({ origin, model }: Request, wire: Wire): string {
  if (wire === "workers-ai") return `${origin}/client/v4/accounts/${ACCOUNT}/ai/run/${encodeURI(model)}`;
  return wire === "dataoorts" ? `${origin}/api/v1` : origin + PATHS[wire];
}

function wireBody({ model, fields }: Request, wire: Wire): object {
  if (wire === "workers-ai") return fields;
  return wire === "dataoorts" ? { model, data: fields } : { model, ...fields };
}

function writeCurl(request: Request, wire: Wire): string {
  return [
    `curl ${shellQuoted(address(request, wire))} \\`,
    `  -H 'content-type: application/json' \\`,
    `  -H "authorization: Bearer $OUTRIDER_API_KEY" \\`,
    `  -d ${shellQuoted(JSON.stringify(wireBody(request, wire), null, 2))}`,
  ].join("\n");
}

// What the official clients have as arguments of their own; the rest goes into extra_body.
const OPENAI_ARGUMENTS = new Set([
  "messages", "temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty",
  "logit_bias", "logprobs", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls", "response_format",
]);

function writePython(request: Request, wire: Wire): string {
  const { origin, model, fields } = request;
  if (wire === "dataoorts" || wire === "workers-ai") {
    return [
      "import os", "", "import requests", "",
      "answer = requests.post(",
      `    ${python(address(request, wire))},`,
      `    headers={"authorization": f"Bearer {os.environ.get('OUTRIDER_API_KEY', 'none')}"},`,
      `    json=${python(wireBody(request, wire), 1)},`,
      ")",
      `print(answer.json()["result"])`,
    ].join("\n");
  }
  const own = Object.entries(fields).filter(([name]) => OPENAI_ARGUMENTS.has(name));
  const extra = Object.fromEntries(Object.entries(fields).filter(([name]) => !OPENAI_ARGUMENTS.has(name)));
  const base = wire === "openai" ? `${origin}/v1` : `${origin}/api/v1`;
  return [
    "import os", "", "from openai import OpenAI", "",
    `client = OpenAI(base_url=${python(base)}, api_key=os.environ.get("OUTRIDER_API_KEY", "none"))`,
    "answer = client.chat.completions.create(",
    `    model=${python(model)},`,
    ...own.map(([name, value]) => `    ${name}=${python(value, 1)},`),
    ...(Object.keys(extra).length ? [`    extra_body=${python(extra, 1)},`] : []),
    ")",
    "print(answer.choices[0].message)",
  ].join("\n");
}

function writeTypescript(request: Request, wire: Wire): string {
  if (wire === "openai") {
    return [
      `import OpenAI from "openai";`, "",
      `const client = new OpenAI({`,
      `  baseURL: ${typescript(`${request.origin}/v1`)},`,
      `  apiKey: process.env.OUTRIDER_API_KEY ?? "none",`,
      `});`,
      `const answer = await client.chat.completions.create(${typescript({ model: request.model, ...request.fields })} as OpenAI.ChatCompletionCreateParamsNonStreaming);`,
      `console.log(answer.choices[0].message);`,
    ].join("\n");
  }
  const result = wire === "openrouter" ? "answer.choices[0].message" : "answer.result";
  return [
    `const reply = await fetch(${typescript(address(request, wire))}, {`,
    `  method: "POST",`,
    `  headers: {`,
    `    "content-type": "application/json",`,
    `    authorization: \`Bearer \${process.env.OUTRIDER_API_KEY ?? "none"}\`,`,
    `  },`,
    `  body: JSON.stringify(${typescript(wireBody(request, wire), 1)}),`,
    `});`,
    `const answer = await reply.json();`,
    `console.log(${result});`,
  ].join("\n");
}
