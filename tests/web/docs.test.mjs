// The reference of the API: finding an operation, reading what it takes, and trying it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { findings, inPage, overflow, start } from "./browser.mjs";

const CHAT = "/docs/postV1ChatCompletions";
const REFUSED = /status of \d+/; // the browser notes every answer that isn't a 2xx
const GONE = /ERR_(EMPTY_RESPONSE|CONNECTION_\w+)/;

let session;
before(async () => { session = await start(); });
after(() => session.close());

const list = (page) => page.getByRole("navigation", { name: "Operations" });
const answer = (page) => page.getByRole("region", { name: "Answer", exact: true });
const body = (page) => page.getByRole("textbox", { name: "Body" });

async function sendAndWait(page) {
  await page.getByRole("button", { name: "Send" }).click();
  await answer(page).getByText("complete").waitFor();
}

test("an operation is found by searching and opened", async () => {
  await inPage(session, { path: "/docs" }, async (page) => {
    await list(page).getByText("OpenRouter", { exact: true }).waitFor();
    const all = await list(page).getByRole("link").count();
    assert.ok(all > 30, `${all} operations`);
    await page.getByRole("rowheader", { name: "Workers AI" }).waitFor();
    await page.getByLabel("Search operations").fill("list models openai");
    await page.getByText("1 operations found").waitFor({ state: "attached" });
    await list(page).getByRole("link").click();
    await page.getByRole("heading", { name: "List the served models", level: 1 }).waitFor();
    assert.match(page.url(), /\/docs\/getV1Models$/);
    assert.equal(await page.title(), "GET /v1/models · Outrider");
    await page.getByLabel("Search operations").fill("no such thing");
    await list(page).getByText("Nothing found.").waitFor();
    await page.goBack();
    await page.getByRole("heading", { name: "API reference" }).waitFor();
  });
});

test("what a body takes is a tree with bounds and defaults", async () => {
  await inPage(session, { path: CHAT }, async (page) => {
    const section = page.getByRole("region", { name: "Body", exact: true });
    const row = (name) => section.locator("li").filter({ has: page.locator(`.field-name`, { hasText: new RegExp(`^${name}$`) }) }).first();
    assert.match(await row("model").innerText(), /string\s+required/);
    assert.match(await row("temperature").innerText(), /number or null\s+0 to 2\s+default 1/);
    await section.getByText("Fields of messages").click();
    await section.getByText("Fields of content").click();
    assert.match(await row("image_url").innerText(), /ImageUrl/);
    await section.getByText(/Known, but refused or without effect/).first().click();
    await section.getByText("Inert: accepted, and without effect.").first().waitFor();
    const answers = page.getByRole("region", { name: "Answers" });
    await answers.getByText("The answer.").click();
    await answers.getByText("text/event-stream").waitFor();
    await answers.getByText("Fields of choices").first().click();
  });
});

test("a request is tried, whole and streamed, and stopped", async () => {
  await inPage(session, { path: CHAT }, async (page) => {
    await page.getByRole("article").getByRole("button", { name: "Try it" }).click();
    await body(page).fill((await body(page).inputValue()).replace("64", "4"));
    await sendAndWait(page);
    assert.equal(JSON.parse(await answer(page).locator("pre").innerText()).usage.completion_tokens, 4);
    assert.match(await answer(page).innerText(), /x-outrider-attempts\s+local:200/);
    await page.getByLabel("Stream the answer").check();
    assert.match(await body(page).inputValue(), /"stream": true/);
    await sendAndWait(page);
    assert.match(await answer(page).locator("pre").innerText(), /^data: \{[\s\S]*data: \[DONE\]\s*$/);
    await body(page).fill((await body(page).inputValue()).replace(/"max_tokens": 4/, '"max_tokens": 4000, "ignore_eos": true'));
    await page.getByRole("button", { name: "Send" }).click();
    await answer(page).getByText(/data: \{/).waitFor();
    await answer(page).getByText("arriving").waitFor();
    await page.getByRole("button", { name: "Stop" }).click();
    await answer(page).getByText("Stopped.").waitFor();
  });
});

test("the line for curl does what the form does", async () => {
  await inPage(session, { path: CHAT }, async (page) => {
    const text = `{"model": "${await body(page).inputValue().then((value) => JSON.parse(value).model)}", "messages": [{"role": "user", "content": "It's $HOME"}], "max_tokens": 2, "temperature": 0}`;
    await body(page).fill(text);
    const line = await page.getByRole("region", { name: "Try it" }).locator("pre").first().innerText();
    const { stdout } = await promisify(execFile)("bash", ["-c", `${line} -sf`]);
    await sendAndWait(page);
    const shown = JSON.parse(await answer(page).locator("pre").innerText());
    assert.deepEqual(JSON.parse(stdout).choices, shown.choices);
  });
});

test("the example of every wire that answers is one that the server takes", async () => {
  await inPage(session, { path: "/docs" }, async (page, front) => {
    const ids = [
      "postV1ChatCompletions", "postV1Completions", "postApiV1ChatCompletions", "postApiV1Completions",
      "postClientV4AccountsAccountIdAiRunModel", "postClientV4AccountsAccountIdAiV1ChatCompletions", "postApiV1",
      "getV1Models", "getV1ModelsModel", "getApiV1ModelsModelEndpoints", "getHealthz",
    ];
    for (const id of ids) {
      await page.goto(`${front.url}/docs/${id}`);
      await page.getByRole("button", { name: "Send" }).waitFor();
      // The model's name comes with the list of models.
      await page.waitForFunction(() => !document.querySelector(".try .primary").disabled && !/""/.test(document.querySelector(".try textarea")?.value ?? ""));
      await sendAndWait(page);
      assert.equal(await answer(page).locator(".status").innerText(), "200", `${id}: ${await answer(page).innerText()}`);
    }
  });
});

test("the key goes into the request and not into what is shown", async () => {
  await inPage(session, { path: "/docs/getApiV1Key", allowed: [REFUSED] }, async (page) => {
    await page.getByRole("button", { name: "Without a key" }).click();
    await page.getByLabel("API key of this server").fill("sk-or-v1-secret");
    await page.getByRole("button", { name: "Use it" }).click();
    const [request] = await Promise.all([page.waitForRequest("**/api/v1/key"), page.getByRole("button", { name: "Send" }).click()]);
    assert.equal(request.headers().authorization, "Bearer sk-or-v1-secret");
    await answer(page).getByText("complete").waitFor();
    assert.match(await page.getByRole("region", { name: "Try it" }).innerText(), /\$OUTRIDER_API_KEY/);
    assert.ok(!(await page.locator("body").innerText()).includes("sk-or-v1-secret"));
  });
});

test("what can't be sent says why, and a server that is gone is said", async () => {
  await inPage(session, { path: CHAT, allowed: [GONE, REFUSED] }, async (page, front) => {
    const before = await body(page).inputValue();
    await body(page).fill('{"model": ');
    await page.getByText("Not JSON yet").waitFor();
    assert.ok(await page.getByRole("button", { name: "Send" }).isDisabled());
    await body(page).fill('{"model": "x", "temperature": 9}');
    await sendAndWait(page);
    assert.equal(await answer(page).locator(".status").innerText(), "400");
    await body(page).fill(before);
    front.isDown = true;
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByRole("alert").filter({ hasText: "The server doesn't answer" }).waitFor();
    front.isDown = false;
    assert.equal(await body(page).inputValue(), before);
    await page.goto(`${front.url}/docs/getV1FilesFileId`);
    await page.getByText("Fill in file_id first.").waitFor();
    await page.goto(`${front.url}/docs/nothing`);
    await page.getByText("There is no operation named nothing.").waitFor();
  });
});

test("a file is sent from its form", async () => {
  await inPage(session, { path: "/docs/postV1Files" }, async (page) => {
    const line = { custom_id: "1", method: "POST", url: "/v1/chat/completions", body: {} };
    await page.getByLabel("file (required)").setInputFiles({ name: "in.jsonl", mimeType: "application/jsonl", buffer: Buffer.from(JSON.stringify(line)) });
    await page.getByLabel("purpose (required)").fill("batch");
    assert.match(await page.getByRole("region", { name: "Try it" }).locator("pre").first().innerText(), /-F 'file=@in\.jsonl'/);
    await sendAndWait(page);
    assert.equal(JSON.parse(await answer(page).locator("pre").innerText()).filename, "in.jsonl");
  });
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [1280, 360]) {
    test(`axe finds nothing serious in the reference, ${colorScheme} at ${width} pixels`, async () => {
      await inPage(session, { path: "/docs", colorScheme, viewport: { width, height: 760 } }, async (page, front) => {
        await list(page).getByText("Workers AI", { exact: true }).waitFor();
        assert.deepEqual(await findings(page), []);
        assert.ok((await overflow(page)) <= 0, "too wide");
        await page.goto(front.url + CHAT);
        await page.getByText("Fields of messages").click();
        await page.getByLabel("Stream the answer").check();
        await sendAndWait(page);
        assert.deepEqual(await findings(page), []);
        assert.ok((await overflow(page)) <= 0, "too wide");
      });
    });
  }
}
