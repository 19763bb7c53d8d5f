// Models as a person manages them: pulled from a hub with progress, loaded, asked, unloaded and
// deleted; and a server that was started with nothing.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { answerSurely, ask, findings, inPage, script, start } from "./browser.mjs";
import { dialog, HERE, MODEL_FILE, row, SERVED, startManaged } from "./managed.mjs";

const MODEL = `hf:${SERVED}`;

let managed;
before(async () => { managed = await startManaged(); });
after(() => managed?.close());

test("a model is pulled with progress, stopped and pulled on, loaded, asked, unloaded and deleted", async () => {
  const key = await managed.made("talker");
  await managed.asManager("", async (page, front) => {
    await page.getByText("No model is loaded").waitFor();
    await pull(page, "hf:nobody/nothing");
    await page.getByText("nobody/nothing couldn't be downloaded").waitFor();
    await pull(page, MODEL);
    await page.getByText(/Downloading demo\/smol: [1-9]/).waitFor();
    await page.getByRole("button", { name: `Cancel the pull of ${MODEL}` }).click();
    await page.getByText("cancelled", { exact: true }).waitFor();
    await pull(page, MODEL);
    await page.getByRole("button", { name: `Load ${MODEL}` }).click({ timeout: 30_000 });
    await page.locator(".card", { hasText: "ready" }).waitFor({ timeout: 30_000 });
    await page.getByRole("link", { name: "Playground" }).click();
    await page.getByRole("button", { name: "Key" }).click();
    await page.getByLabel("API key of this server").fill(key);
    await page.getByRole("button", { name: "Use it" }).click();
    await page.getByLabel("Model of the chat").selectOption(SERVED);
    await answerSurely(page, 24);
    front.asked.length = 0;
    await ask(page, "Say hello.");
    assert.equal(front.asked[0].model, SERVED);
    await page.getByRole("link", { name: "Admin" }).click();
    await page.getByRole("button", { name: "Unload" }).click();
    await dialog(page).getByText("are refused at once").waitFor();
    await page.getByRole("button", { name: "Unload it" }).click();
    await page.getByText("No model is loaded").waitFor({ timeout: 30_000 });
    await page.getByRole("button", { name: `Delete ${MODEL}` }).click();
    await page.getByRole("button", { name: "Delete it" }).click();
    await row(page, MODEL).waitFor({ state: "detached" });
  });
});

async function pull(page, name) {
  await page.getByLabel("Pull another model").fill(name);
  await page.getByRole("button", { name: "Pull", exact: true }).click();
}

test("a playground without a model fetches the default one and loads it", async () => {
  const shelf = mkdtempSync(join(tmpdir(), "outrider-wheel-"));
  (await script(join(HERE, "fake_wheel.py"), MODEL_FILE, shelf)).stop();
  const env = { OUTRIDER_HOME: join(shelf, "home"), PIP_NO_INDEX: "1", PIP_FIND_LINKS: shelf };
  const empty = await start({ model: "none", options: [], env });
  try {
    await inPage(empty, {}, async (page) => {
      await page.getByText("No model is loaded").waitFor();
      assert.deepEqual(await findings(page), []);
      await page.getByRole("button", { name: "Fetch and load it" }).click();
      await page.getByText("No model is loaded").waitFor({ state: "detached", timeout: 40_000 });
      await answerSurely(page, 24);
      await ask(page, "Say hello.");
    });
    await inPage(empty, { path: "/admin/keys", allowed: [/status of 401/] }, async (page) => {
      await page.getByText("This needs a management key").waitFor();
    });
  } finally {
    await empty.close();
    rmSync(shelf, { recursive: true, force: true });
  }
});
