// `workers-ai-provider` with `ai`.

import assert from "node:assert/strict";
import test from "node:test";
import { embedMany, generateObject, generateText, jsonSchema, streamText, tool } from "ai";
import { createWorkersAI } from "workers-ai-provider";
import { checkColour, checkVectors, cloudflareFetch, eyes, material, words } from "./node_material.mjs";

const connect = (server) =>
  createWorkersAI({
    accountId: material.ACCOUNT,
    apiKey: "token",
    fetch: cloudflareFetch(server),
  });
const workersai = connect(words);
const model = workersai(material.CF_CHAT);
const limits = { maxRetries: 0, temperature: 0 };
const tools = (cities) => ({
  get_weather: tool({
    description: "Get the weather of a city.",
    inputSchema: jsonSchema(material.WEATHER_PARAMETERS),
    execute: ({ city }) => {
      cities.push(city);
      return material.WEATHER_RESULT;
    },
  }),
});
const twoSteps = {
  prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
  stopWhen: ({ steps }) => steps.length === 2,
  maxOutputTokens: 64,
};

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

test("a tool is called and its result answered", async () => {
  const cities = [];
  const answer = await generateText({
    ...limits,
    ...twoSteps,
    model,
    prompt: material.QUESTION,
    tools: tools(cities),
  });
  assert.ok(cities.length > 0 && cities.every((city) => material.CITIES.includes(city)));
  assert.ok(answer.text);
});

test("a streamed tool call is answered", async () => {
  const cities = [];
  const stream = streamText({
    ...limits,
    ...twoSteps,
    model,
    prompt: material.QUESTION,
    tools: tools(cities),
  });
  assert.ok(await stream.text);
  assert.ok(cities.length > 0 && cities.every((city) => material.CITIES.includes(city)));
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
      model: connect(eyes)(material.CF_CHAT),
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
    model: workersai.textEmbedding(material.CF_EMBEDDINGS),
    values: material.TEXTS,
    maxRetries: 0,
  });
  checkVectors(assert, embeddings);
});

test("errors are told", async () => {
  const ask = (name, fields) =>
    generateText({ model: workersai(name), prompt: "Hi", maxRetries: 0, ...fields });
  await assert.rejects(ask("@cf/no/such-model"), /5007|No such model/);
  await assert.rejects(ask(material.CF_CHAT, { temperature: 7 }), (e) => e.statusCode === 400);
});
