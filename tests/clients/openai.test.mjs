// `openai`, OpenAI's client for Node.

import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout } from "node:timers/promises";
import OpenAI, { toFile } from "openai";
import { checkColour, checkVectors, eyes, material, user, words } from "./node_material.mjs";

const connect = (server) => new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "key", maxRetries: 0 });
const client = connect(words);
const model = words.model;

test("models are listed", async () => {
  const names = [];
  for await (const each of client.models.list()) names.push(each.id);
  assert.deepEqual(names.sort(), [words.embedding_model, model].sort());
});

test("a chat is answered, whole and streamed", async () => {
  const question = { model, messages: user("Name a river."), temperature: 0, max_tokens: 16 };
  const whole = await client.chat.completions.create(question);
  let text = "";
  let usage = null;
  for await (const chunk of await client.chat.completions.create({
    ...question,
    stream: true,
    stream_options: { include_usage: true },
  })) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.ok(text);
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

test("a tool is called and its result answered", async () => {
  const asked = user(material.QUESTION);
  const tools = [material.WEATHER];
  const first = await client.chat.completions.create({
    model,
    messages: asked,
    tools,
    tool_choice: material.NAMED,
  });
  const { message } = first.choices[0];
  const [call] = message.tool_calls;
  assert.ok(material.CITIES.includes(JSON.parse(call.function.arguments).city));
  const result = { role: "tool", tool_call_id: call.id, content: material.WEATHER_RESULT };
  const messages = [...asked, message, result];
  const last = await client.chat.completions.create({
    model,
    messages,
    tools,
    tool_choice: "none",
    max_tokens: 16,
  });
  assert.ok(last.choices[0].message.content);
});

test("an answer keeps to a schema", async () => {
  const answer = await client.chat.completions.parse({
    model,
    messages: user("Which colour is fire?"),
    response_format: material.FORMAT,
  });
  checkColour(assert, JSON.parse(answer.choices[0].message.content));
});

test("an image is seen", async () => {
  const ask = (messages) =>
    connect(eyes).chat.completions.create({ model: eyes.model, messages, max_tokens: 4 });
  const seen = await ask(material.LOOK);
  const textOnly = await ask(user("What is this?"));
  assert.ok(seen.usage.prompt_tokens > textOnly.usage.prompt_tokens + 4);
});

test("texts become vectors", async () => {
  const answer = await client.embeddings.create({
    model: words.embedding_model,
    input: material.TEXTS,
  });
  checkVectors(assert, answer.data.map((item) => item.embedding));
});

test("a batch of a file runs", async () => {
  const lines = material.BATCH_LINES.map((line) => `${JSON.stringify(line)}\n`).join("");
  const file = await client.files.create({
    file: await toFile(Buffer.from(lines), "lines.jsonl"),
    purpose: "batch",
  });
  let batch = await client.batches.create({
    input_file_id: file.id,
    endpoint: "/v1/chat/completions",
    completion_window: "24h",
  });
  while (batch.status !== "completed") {
    assert.ok(["validating", "in_progress", "finalizing"].includes(batch.status));
    await setTimeout(50);
    batch = await client.batches.retrieve(batch.id);
  }
  assert.deepEqual(batch.request_counts, { total: 2, completed: 1, failed: 1 });
  const read = async (id) => JSON.parse(await (await client.files.content(id)).text());
  const answer = await read(batch.output_file_id);
  assert.equal(answer.custom_id, "good");
  assert.ok(answer.response.body.choices[0].message.content);
  assert.equal((await read(batch.error_file_id)).custom_id, "bad");
  assert.ok((await client.files.delete(file.id)).deleted);
  await assert.rejects(client.files.retrieve(file.id), OpenAI.NotFoundError);
});

test("errors are told apart", async () => {
  const ask = (fields) => client.chat.completions.create({ model, messages: user("Hi"), ...fields });
  await assert.rejects(ask({ model: "no-such-model" }), OpenAI.NotFoundError);
  await assert.rejects(ask({ temperature: 3 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "temperature");
    return true;
  });
});
