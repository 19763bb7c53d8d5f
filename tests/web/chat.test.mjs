// The chat, as a person uses it: ask, stop, edit, answer again, go back, and find it all later.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { answers, answerSurely, ask, inPage, last, said, setParameter, start } from "./browser.mjs";
import { says } from "./front.mjs";

let session;
before(async () => { session = await start(); });
after(() => session.close());

async function numRunning() {
  const { models } = await (await fetch(`${session.url}/healthz`)).json();
  return Object.values(models)[0].running;
}

test("an answer streams in and says what it took", async () => {
  await inPage(session, {}, async (page) => {
    await answerSurely(page, 24);
    await ask(page, "Name a river.");
    const answer = answers(page);
    assert.ok((await answer.locator(".markdown").innerText()).length > 0);
    const facts = await answer.locator(".facts").innerText();
    for (const part of [/in\b/, /out\b/, /tok\/s/, /to first token/, /Outrider/]) assert.match(facts, part);
    assert.match(page.url(), /\/chat\/[\w-]+$/);
  });
});

test("stopping frees the engine and keeps what had arrived", async () => {
  await inPage(session, {}, async (page) => {
    await answerSurely(page, 8000); // repeats itself, so quickly that fewer may end before the stop
    await page.getByLabel("Your message").fill("Tell me a very long story about a lighthouse, with every detail.");
    await page.keyboard.press("Enter");
    await page.locator(".markdown").waitFor();
    assert.equal(await numRunning(), 1);
    await page.keyboard.press("Escape");
    await page.locator(".ending", { hasText: "Stopped." }).waitFor();
    for (let tries = 0; (await numRunning()) > 0; tries++) {
      assert.ok(tries < 50, "the engine still runs it");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.ok((await page.locator(".markdown").innerText()).length > 0);
  });
});

test("an edited question and a second answer become branches", async () => {
  await inPage(session, {}, async (page, front) => {
    front.script.push(says("first"), says("second"), says("third"));
    await ask(page, "One?");
    await page.getByRole("button", { name: "Answer again" }).click();
    await said(page, "second");
    await page.getByText("2 / 2").waitFor();
    await page.getByRole("button", { name: "Previous alternative" }).click();
    await said(page, "first");
    await page.getByLabel("Your message").focus();
    await page.keyboard.press("ArrowUp");
    await page.getByLabel("Edit the message").fill("Two?");
    await page.keyboard.press("Enter");
    await said(page, "third");
    assert.deepEqual(last(front.asked).messages, [{ role: "user", content: "Two?" }]);
    await page.getByRole("button", { name: "Previous alternative" }).click();
    await said(page, "second"); // the newest behind that question
    assert.equal(await page.locator(".asked").innerText(), "One?");
  });
});

test("the system prompt and the turns before go along", async () => {
  await inPage(session, {}, async (page, front) => {
    front.script.push(says("Aye."), says("Arr."));
    await page.getByLabel("System prompt").fill("Speak like a pirate.");
    await ask(page, "Hello");
    await ask(page, "Again");
    assert.deepEqual(last(front.asked).messages, [
      { role: "system", content: "Speak like a pirate." },
      { role: "user", content: "Hello" },
      { role: "assistant", content: "Aye." },
      { role: "user", content: "Again" },
    ]);
  });
});

test("conversations are found again after a reload, searched and deleted", async () => {
  await inPage(session, {}, async (page, front) => {
    front.script.push(says("A heron stands still."), says("Something else."));
    await ask(page, "About birds");
    await page.getByRole("button", { name: "New chat" }).click();
    await ask(page, "About stones");
    await page.reload();
    await said(page, "Something else.");
    await page.getByLabel("Search conversations").fill("heron");
    const list = page.getByRole("navigation", { name: "Conversations" });
    assert.equal(await list.locator(".conversation").count(), 1);
    await list.getByText("About birds").click();
    await said(page, "A heron stands still.");
    await page.goBack();
    await said(page, "Something else.");
    await list.getByRole("button", { name: "Delete About birds" }).click();
    await list.getByText("Nothing found.").waitFor();
  });
});

test("what was typed survives a reload", async () => {
  await inPage(session, {}, async (page) => {
    await page.getByLabel("Your message").fill("half a thought");
    await page.reload();
    assert.equal(await page.getByLabel("Your message").inputValue(), "half a thought");
  });
});

test("everything can be done by keyboard", async () => {
  await inPage(session, {}, async (page, front) => {
    front.script.push(says("fine"));
    await page.keyboard.type("line one");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("line two");
    await page.keyboard.press("Enter");
    await said(page, "fine");
    assert.equal(last(front.asked).messages[0].content, "line one\nline two");
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox", { name: "Command" }).fill("dark theme");
    await page.keyboard.press("Enter");
    assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.keyboard.press("Control+k");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.match(await page.locator("[aria-live]").first().textContent(), /complete: fine/);
  });
});

test("Tab reaches everything in the order in which it stands, and nothing keeps it", async () => {
  await inPage(session, {}, async (page) => {
    await page.locator("#parameter-temperature").waitFor();
    await page.locator(".skip").focus();
    const nameOf = () => page.evaluate(() => {
      const element = document.activeElement;
      return element === document.body ? "" : (element.getAttribute("aria-label") || element.id || element.textContent || element.tagName).trim();
    });
    const names = [];
    // At the end the focus leaves the page, or begins anew.
    for (let name = await nameOf(); name !== "" && name !== names[0] && names.length < 150; name = await nameOf()) {
      names.push(name);
      await page.keyboard.press("Tab");
    }
    const wanted = ["Skip to the content", "Outrider", "Playground", "New chat", "Search conversations", "Model of the chat", "Your message", "parameter-temperature"];
    const places = wanted.map((name) => names.indexOf(name));
    assert.ok(!places.includes(-1) && names.length < 150, names.join(" | "));
    assert.deepEqual(places, [...places].sort((a, b) => a - b), names.join(" | "));
  });
});

test("a chat is exported and imported with everything in it", async () => {
  await inPage(session, {}, async (page, front) => {
    front.script.push(says("Kept."));
    await setParameter(page, "temperature", 0.5);
    await ask(page, "Keep this");
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export" }).click()]);
    const path = await download.path();
    await page.getByRole("button", { name: "Delete Keep this" }).click();
    await page.getByText("Conversations appear here.").waitFor();
    await page.getByLabel("File to import").setInputFiles(path);
    await said(page, "Kept.");
    assert.equal(await page.locator("#parameter-temperature").inputValue(), "0.5");
    assert.match(await page.locator(".facts").innerText(), /\$0\.00012/);
    await page.getByLabel("File to import").setInputFiles({ name: "x.json", mimeType: "application/json", buffer: Buffer.from("{}") });
    await page.getByText("The file isn't an export of Outrider's chats.").waitFor();
  });
});

test("two panes answer one question side by side", async () => {
  await inPage(session, {}, async (page, front) => {
    await page.getByRole("button", { name: "Compare: add a pane" }).click();
    await setParameter(page, "temperature", 0);
    front.script.push(says("left"), says("right"));
    await page.getByLabel("Your message").fill("Both of you?");
    await page.keyboard.press("Enter");
    await said(page, "left");
    await said(page, "right");
    assert.equal(await page.locator(".asked").count(), 2);
    assert.deepEqual(front.asked.map(({ temperature }) => temperature), [undefined, 0]);
    for (let panes = 2; panes < 4; panes++) await page.getByRole("button", { name: "Compare: add a pane" }).click();
    assert.ok(await page.getByRole("button", { name: "Compare: add a pane" }).isDisabled());
    await page.getByRole("button", { name: "Close pane 4" }).click();
    assert.equal(await page.locator(".thread").count(), 3);
  });
});
