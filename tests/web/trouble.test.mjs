// What goes wrong is said in words, with a way on, and nothing that was written is lost.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, inPage, last, said, start } from "./browser.mjs";
import { refuses, says } from "./front.mjs";

const REFUSED = /status of \d+/; // the browser notes every answer that isn't a 2xx
const GONE = /ERR_(EMPTY_RESPONSE|INCOMPLETE_CHUNKED_ENCODING|CONNECTION_\w+)/;

let session;
before(async () => { session = await start(); });
after(() => session.close());

const problem = (page, title) => page.getByRole("alert").filter({ hasText: title }).waitFor();

test("a server that goes away in mid-answer leaves what had come, and the answer goes on from there", async () => {
  await inPage(session, { allowed: [GONE] }, async (page, front) => {
    front.script.push(says(["The sea ", "is "], { cut: true }), says(["deep."]));
    await ask(page, "The sea?");
    await problem(page, "The connection broke off in mid-answer");
    await said(page, "The sea is");
    await page.getByRole("button", { name: "Go on", exact: true }).click();
    await said(page, "The sea is deep.");
    assert.deepEqual(last(front.asked).messages, [
      { role: "user", content: "The sea?" },
      { role: "assistant", content: "The sea is " },
    ]);
  });
});

test("a second try stands beside the answer that was cut", async () => {
  await inPage(session, { allowed: [GONE] }, async (page, front) => {
    front.script.push(says(["half"], { cut: true }), says(["whole"]));
    await ask(page, "Which?");
    await page.getByRole("button", { name: "Try again" }).click();
    await said(page, "whole");
    await page.getByRole("button", { name: "Previous alternative" }).click();
    await said(page, "half");
  });
});

test("a server that is down is said, and asked again", async () => {
  await inPage(session, { allowed: [GONE] }, async (page, front) => {
    front.isDown = true;
    await ask(page, "Anybody?");
    await problem(page, "The server doesn't answer");
    front.isDown = false;
    front.script.push(says("Here again."));
    await page.getByRole("button", { name: "Try again" }).click();
    await said(page, "Here again.");
  });
});

test("a conversation that is too long offers a new one", async () => {
  await inPage(session, { allowed: [REFUSED] }, async (page) => {
    await ask(page, "word ".repeat(12_000));
    await problem(page, "no longer fits into the model's context");
    assert.equal(await page.locator(".meter").getAttribute("data-level"), "full");
    await page.getByRole("button", { name: "Start a new chat" }).click();
    await page.getByRole("heading", { name: "What shall we look at?" }).waitFor();
  });
});

for (const [name, status, metadata, title, remedy] of [
  ["a missing key", 401, {}, "This server wants a key", "Enter a key"],
  ["a used-up budget", 402, {}, "The key's budget is used up", "Enter a key"],
  ["a refused picture", 400, { param: "messages[0].content[0]" }, "An image was refused", "Try again"],
  ["a busy server", 429, {}, "The server is busy", "Try again"],
  ["a model that is gone", 400, { provider_code: "model_not_found" }, "There is no such model here", "Try again"],
]) {
  test(`${name} is said in words`, async () => {
    await inPage(session, { allowed: [REFUSED] }, async (page, front) => {
      front.script.push(refuses(status, "the image says why", metadata));
      await ask(page, "Hello");
      await problem(page, title);
      await page.getByRole("alert").getByRole("button", { name: remedy }).waitFor();
      await page.getByRole("alert").getByText("the image says why").waitFor();
    });
  });
}

test("a stream's own error is shown with what had come before it", async () => {
  await inPage(session, {}, async (page, front) => {
    front.script.push((reply) => {
      reply.writeHead(200, { "content-type": "text/event-stream" });
      reply.write('data: {"choices":[{"delta":{"content":"So far"}}]}\n\n');
      reply.end('data: {"error":{"code":502,"message":"the engine died"},"choices":[{"delta":{},"finish_reason":"error"}]}\n\n');
    });
    await ask(page, "Hello");
    await said(page, "So far");
    await problem(page, "the engine died");
  });
});

test("a server without a model offers to fetch one", async () => {
  await inPage(session, {}, async (page, front) => {
    front.models = async () => ({ data: [] });
    await page.reload();
    await problem(page, "No model is loaded");
    await page.getByRole("alert").getByRole("button", { name: "Fetch and load it" }).waitFor();
  });
});

test("a broken list of models doesn't break the page", async () => {
  await inPage(session, { allowed: [REFUSED] }, async (page, front) => {
    await page.route("**/api/v1/models", (route) => route.fulfill({ status: 500, body: "<html>" }));
    await page.reload();
    await problem(page, "The server doesn't answer");
    await page.getByLabel("Your message").fill("still here");
  });
});
