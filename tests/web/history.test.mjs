// The history with a key: on the server, found on another machine, and nothing moved unasked.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, findings, inPage, overflow, said } from "./browser.mjs";
import { says } from "./front.mjs";
import { item, kept, newKey, startHistory, titles, until, useKey } from "./history.mjs";

let session;
before(async () => { session = await startHistory(); });
after(() => session.close());

test("without a key the history is in the browser, with one on the server, and nothing moves unasked", async () => {
  await inPage(session, {}, async (page, front) => {
    await page.getByText("Kept in this browser only.").waitFor();
    front.script.push(says("Local answer"));
    await ask(page, "Local question");
    const key = await newKey(session, page);
    await page.getByText("One conversation is in this browser only.").waitFor();
    await item(page, "in this browser").waitFor();
    assert.deepEqual(await titles(session, key), []);
    await page.getByRole("button", { name: "New chat" }).click();
    front.script.push(says("Server answer"));
    await ask(page, "Server question");
    await until(async () => (await titles(session, key)).length === 1);
    assert.deepEqual(await findings(page), []);
    await page.getByRole("button", { name: "Move", exact: true }).click();
    await until(async () => (await titles(session, key)).length === 2);
    assert.deepEqual(await titles(session, key), ["Local question", "Server question"]);
    await page.getByText("One conversation is in this browser only.").waitFor({ state: "detached" });
    await page.setViewportSize({ width: 360, height: 700 });
    assert.equal(await overflow(page), 0);
  });
});

test("who leaves conversations in the browser isn't asked again", async () => {
  await inPage(session, {}, async (page, front) => {
    front.script.push(says("Local answer"));
    await ask(page, "Private question");
    const key = await newKey(session, page);
    await page.getByRole("button", { name: "Leave here" }).click();
    await page.getByRole("button", { name: "Move 1 from this browser to the server" }).waitFor();
    await page.reload();
    await page.getByRole("button", { name: "Move 1 from this browser to the server" }).waitFor();
    assert.equal(await page.getByRole("button", { name: "Leave here" }).count(), 0);
    assert.deepEqual(await titles(session, key), []);
  });
});

test("another machine finds, opens, searches, changes and deletes what is on the server", async () => {
  let key = "";
  await inPage(session, {}, async (page, front) => {
    key = await newKey(session, page);
    front.script.push(says("The lighthouse keeper sleeps."), says("Another answer."));
    await ask(page, "First question");
    await page.getByRole("button", { name: "New chat" }).click();
    await ask(page, "Second question");
    await until(async () => (await titles(session, key)).length === 2);
  });
  await inPage(session, {}, async (page, front) => {
    await useKey(page, key);
    await page.getByLabel("Search conversations").fill("LIGHTHOUSE keeper");
    await item(page, "First question").waitFor();
    assert.equal(await page.locator(".conversation").count(), 1);
    await item(page, "First question").getByRole("button").first().click();
    await said(page, "The lighthouse keeper sleeps.");
    assert.match(await page.locator(".facts").innerText(), /\$0\.00012/);
    front.script.push(says("Still asleep."));
    await ask(page, "And now?");
    await page.getByLabel("Search conversations").fill("");
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export" }).click()]);
    const path = await download.path();
    await page.getByRole("button", { name: "Delete Second question" }).click();
    await until(async () => (await titles(session, key)).length === 1);
    await page.getByLabel("File to import").setInputFiles(path);
    await until(async () => (await titles(session, key)).length === 2);
    const { id } = (await kept(session, key)).data.find(({ title }) => title === "First question");
    const [thread] = (await kept(session, key, `/${id}`)).threads;
    assert.equal(Object.keys(thread.messages).length, 4);
    await useKey(page, await newKey(session));
    await page.getByText("Conversations appear here.").waitFor();
    assert.equal(await page.getByText("Still asleep.").count(), 0);
  });
});

test("a key that the server doesn't know keeps the history in the browser", async () => {
  await inPage(session, {}, async (page, front) => {
    await page.getByRole("button", { name: "Enter a key" }).first().click();
    await page.getByLabel("API key of this server").fill("sk-or-v1-nobody");
    await page.getByRole("button", { name: "Use it" }).click();
    await page.getByText("The server keeps conversations for keys that it knows").waitFor();
    front.script.push(says("Here."));
    await ask(page, "Stay");
    await page.reload();
    await item(page, "Stay").waitFor();
    const stored = await page.evaluate(() => JSON.stringify({ ...localStorage }));
    assert.ok(!stored.includes("nobody"));
  });
});
