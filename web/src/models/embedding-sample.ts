// How to ask for embeddings from code; OpenAI's and OpenRouter's wires differ in the base URL only.

import { python, shellQuoted, typescript } from "../code/literals";
import type { Language } from "../code/samples";

const TEXTS = ["A lighthouse stands at the harbour.", "Boats return before the fog."];

export function embeddingSample(base: string, model: string, language: Language): string {
  return WRITERS[language](base, { model, input: TEXTS });
}

type Body = { model: string; input: string[] };

const WRITERS: Record<Language, (base: string, body: Body) => string> = {
  curl: (base, body) => [
    `curl ${shellQuoted(`${base}/embeddings`)} \\`,
    `  -H 'content-type: application/json' \\`,
    `  -H "authorization: Bearer $OUTRIDER_API_KEY" \\`,
    `  -d ${shellQuoted(JSON.stringify(body, null, 2))}`,
  ].join("\n"),
  python: (base, body) => [
    "import os", "", "from openai import OpenAI", "",
    `client = OpenAI(base_url=${python(base)}, api_key=os.environ.get("OUTRIDER_API_KEY", "none"))`,
    `answer = client.embeddings.create(model=${python(body.model)}, input=${python(body.input)})`,
    "print(len(answer.data[0].embedding))",
  ].join("\n"),
  typescript: (base, body) => [
    `import OpenAI from "openai";`, "",
    `const client = new OpenAI({`,
    `  baseURL: ${typescript(base)},`,
    `  apiKey: process.env.OUTRIDER_API_KEY ?? "none",`,
    `});`,
    `const answer = await client.embeddings.create(${typescript(body)});`,
    `console.log(answer.data[0].embedding.length);`,
  ].join("\n"),
};
