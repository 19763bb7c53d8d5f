// `@openrouter/ai-sdk-provider` with `ai`.

import assert from "node:assert/strict";
import test from "node:test";
import { createOpenRouter } from "@openrouter/ai-sdk-provider";
import { embedMany, generateObject, generateText, jsonSchema, streamText, tool } from "ai";
import { checkColour, checkVectors, eyes, material, words } from "./node_material.mjs";

const connect = (server) => createOpenRouter({ baseURL: `${server.url}/api/v1`, apiKey: "key" });
const router = connect(words);
const model = router.chat(words.model);
const limits = { maxRetries: 0, temperature: 0 };

test("a chat is answered, whole and streamed", async () => {
  const question = { ...limits, model, prompt: "Name a river.", maxOutputTokens: 16 };
  const whole = await generateText(question);
  const stream = streamText(question);
  let text = "";
  for await (const part of stream.textStream) text += part;
  assert.ok(text);
  assert.equal(text, whole.text);
  assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
});

test("a text is continued", async () => {
  const answer = await generateText({
    ...limits,
    model: router.completion(words.model),
    prompt: "Rivers flow",
    maxOutputTokens: 8,
  });
  assert.ok(answer.text);
});

test("a tool is called and its result answered", async () => {
  const cities = [];
  const answer = await generateText({
    ...limits,
    model,
    prompt: material.QUESTION,
    tools: {
      get_weather: tool({
        description: "Get the weather of a city.",
        inputSchema: jsonSchema(material.WEATHER_PARAMETERS),
        execute: ({ city }) => {
          cities.push(city);
          return material.WEATHER_RESULT;
        },
      }),
    },
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
    stopWhen: ({ steps }) => steps.length === 2,
    maxOutputTokens: 64,
  });
  assert.ok(cities.length > 0 && cities.every((city) => material.CITIES.includes(city)));
  assert.ok(answer.text);
});

test("an answer keeps to a schema", async () => {
  const { object } = await generateObject({
    ...limits,
    model,
    prompt: "Which colour is fire?",
    schema: jsonSchema(material.SCHEMA),
  });
  checkColour(assert, object);
});

test("an image is seen", async () => {
  const ask = (parts) =>
    generateText({
      model: connect(eyes).chat(eyes.model),
      messages: [{ role: "user", content: [{ type: "text", text: "What is this?" }, ...parts] }],
      maxOutputTokens: 4,
      maxRetries: 0,
    });
  const seen = await ask([{ type: "image", image: material.PICTURE_URL }]);
  const textOnly = await ask([]);
  assert.ok(seen.usage.inputTokens > textOnly.usage.inputTokens + 4);
});

test("texts become vectors", async () => {
  const { embeddings } = await embedMany({
    model: router.textEmbeddingModel(words.embedding_model),
    values: material.TEXTS,
    maxRetries: 0,
  });
  checkVectors(assert, embeddings);
});

test("errors are told", async () => {
  const ask = (name, fields) =>
    generateText({ model: router.chat(name), prompt: "Hi", maxRetries: 0, ...fields });
  await assert.rejects(ask("no/such-model"), /not a valid model ID/);
  await assert.rejects(ask(words.model, { temperature: 3 }), (error) => error.statusCode === 400);
});
