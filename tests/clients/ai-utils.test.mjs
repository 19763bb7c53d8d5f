// `@cloudflare/ai-utils`: embedded function calling, whose loop runs in the client.
//
// It works on a Worker's binding, which is played here by a function that posts what `env.AI.run`
// would, and demands a call where there are tools: a small model may not make one by itself. It reads
// flat calls only, so the server is started with that setting.

import assert from "node:assert/strict";
import test from "node:test";
import { createToolsFromOpenAPISpec, runWithTools } from "@cloudflare/ai-utils";
import { flat, material, user } from "./node_material.mjs";

const binding = (server) => ({
  async run(model, inputs) {
    const reply = await fetch(`${server.url}/client/v4/accounts/${material.ACCOUNT}/ai/run/${model}`, {
      method: "POST",
      headers: { authorization: "Bearer token", "content-type": "application/json" },
      body: JSON.stringify({ max_tokens: 64, ...(inputs.tools && { tool_choice: "required" }), ...inputs }),
    });
    if (inputs.stream) return reply.body;
    const { success, errors, result } = await reply.json();
    if (!success) throw new Error(errors[0].message);
    return result;
  },
});

const ask = (cities, config) =>
  runWithTools(
    binding(flat),
    material.CF_CHAT,
    {
      messages: user(material.QUESTION),
      tools: [
        {
          name: "get_weather",
          description: "Get the weather of a city.",
          parameters: material.WEATHER_PARAMETERS,
          function: async ({ city }) => {
            cities.push(city);
            return material.WEATHER_RESULT;
          },
        },
      ],
    },
    config,
  );

test("a tool is called and its result answered", async () => {
  const cities = [];
  const answer = await ask(cities, { strictValidation: true });
  assert.ok(cities.length > 0 && cities.every((city) => material.CITIES.includes(city)));
  assert.ok(answer.response);
});

test("the answer to a tool's result is streamed", async () => {
  const cities = [];
  const stream = await ask(cities, { streamFinalResponse: true });
  const text = await new Response(stream).text();
  assert.ok(cities.length > 0);
  assert.match(text, /^data: \{"response":/);
  assert.match(text, /data: \[DONE\]/);
});

test("the server's own OpenAPI document becomes tools", async () => {
  const spec = await (await fetch(`${flat.url}/openapi.json`)).json();
  spec.servers = [{ url: flat.url }]; // it needs a whole address
  const tools = await createToolsFromOpenAPISpec(JSON.stringify(spec), {
    overrides: [],
    matchPatterns: [/\/healthz$/],
  });
  assert.equal(tools.length, 1);
});
