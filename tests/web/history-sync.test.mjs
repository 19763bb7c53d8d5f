// The history with a key when something is in the way: nothing that was written is lost.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, inPage, said } from "./browser.mjs";
import { says } from "./front.mjs";
import { item, kept, newKey, startHistory, titles, until } from "./history.mjs";

const OFFLINE = /net::ERR_|Failed to load resource/;
let session;
before(async () => { session = await startHistory(); });
after(() => session.close());

const everything = async (key) => Promise.all((await kept(session, key)).data.map(({ id }) => kept(session, key, `/${id}`)));

test("what is written while the server is gone is sent when it is back, also by a new tab", async () => {
  await inPage(session, { allowed: [OFFLINE] }, async (page, front) => {
    const key = await newKey(session, page);
    front.isDown = true;
    await page.getByLabel("Your message").fill("Nobody listens");
    await page.keyboard.press("Enter");
    await page.getByText("What you write is kept in this browser and sent when it is back.").waitFor();
    await item(page, "Nobody listens").waitFor();
    front.isDown = false;
    await page.reload();
    await until(async () => (await titles(session, key)).includes("Nobody listens"));
    await page.getByText("New chats are kept on the server, for this key alone.").waitFor();
    front.isDown = true;
    await page.getByLabel("Your message").fill("Nobody again");
    await page.keyboard.press("Enter");
    await page.getByText("sent when it is back").waitFor();
    front.isDown = false; // and it comes back by itself
    await until(async () => JSON.stringify(await everything(key)).includes("Nobody again"));
  });
});

test("two tabs that go on with one conversation lose nothing of it", async () => {
  await inPage(session, { allowed: [/409/] }, async (page, front, context) => {
    const key = await newKey(session, page);
    front.script.push(says("Begin."));
    await ask(page, "Shared");
    await until(async () => (await titles(session, key)).length === 1);
    const other = await context.newPage();
    await other.addInitScript((secret) => sessionStorage.setItem("outrider.key", secret), key);
    await other.goto(page.url());
    await said(other, "Begin.");
    front.script.push(says("One."), says("Two."));
    await ask(page, "From one");
    await until(async () => JSON.stringify(await everything(key)).includes("From one"));
    await ask(other, "From two");
    await until(async () => JSON.stringify(await everything(key)).includes("Two."));
    const text = JSON.stringify(await everything(key));
    for (const part of ["Begin.", "From one", "One.", "From two", "Two."]) assert.ok(text.includes(part), part);
    await other.getByText("2 / 2").or(other.getByText("1 / 2")).first().waitFor();
  });
});

test("what the server refuses stays in the browser, with the reason", async () => {
  await inPage(session, { allowed: [/413/] }, async (page, front) => {
    await newKey(session, page);
    await page.route("**/outrider/v1/conversations/*", (route) =>
      route.fulfill({ status: 413, json: { error: { message: "the conversation has 9,000,000 bytes", code: "payload_too_large" } } }));
    front.script.push(says("Long."));
    await ask(page, "Too long");
    await page.getByText("“Too long” stays in this browser: the conversation has 9,000,000 bytes").waitFor();
    await item(page, "in this browser").waitFor();
    await page.reload();
    await said(page, "Long.");
  });
});
