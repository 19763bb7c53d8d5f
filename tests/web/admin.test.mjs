// Administration as a person does it, on a server that asks for keys and has a provider that breaks:
// keys, budgets, providers, the log of requests, and batches.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { findings, inPage, overflow } from "./browser.mjs";
import { dialog, row, startManaged } from "./managed.mjs";

const HOSTILE = "<img src=x onerror=alert(1)>";
let managed, upstream;
before(async () => {
  managed = await startManaged();
  upstream = managed.upstream;
});
after(() => managed?.close());

const asManager = (section, work, options) => managed.asManager(section, work, options);
const send = (key, wanted) => managed.send(key, wanted);
const made = (name) => managed.made(name);

async function createKey(page, name, fields = {}) {
  await page.getByRole("button", { name: "Create a key" }).click();
  await page.getByLabel("Name").fill(name);
  for (const [label, value] of Object.entries(fields)) await page.getByLabel(label).fill(value);
  await page.getByRole("button", { name: "Create", exact: true }).click();
  const secret = await page.getByLabel("Secret").inputValue();
  await page.getByRole("button", { name: "Copy" }).click();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), secret);
  await page.getByRole("button", { name: "I have it" }).click();
  return secret;
}

test("without a management key the page says what it needs, and takes no wrong one", async () => {
  await inPage(managed.session, { path: "/admin", allowed: [/status of 4/] }, async (page) => {
    await page.getByText("This needs a management key").waitFor();
    await page.getByRole("button", { name: "Enter a management key" }).click();
    await page.getByLabel("Management key of this server").fill("sk-wrong");
    await page.getByRole("button", { name: "Use it" }).click();
    await page.getByText("The server doesn't take this management key").waitFor();
    await page.getByRole("button", { name: "Forget it" }).click();
    await page.getByText("This needs a management key").waitFor();
  });
});

test("a key is created, used, limited, disabled and revoked", async () => {
  await asManager("/keys", async (page) => {
    const secret = await createKey(page, HOSTILE, { "Limit in US dollars": "2" });
    await row(page, HOSTILE).waitFor(); // as text
    assert.equal(await page.locator("main img").count(), 0);
    assert.ok(!(await page.content()).includes(secret), "the secret is gone");
    assert.equal((await send(secret)).status, 200);
    await page.getByRole("button", { name: `Change ${HOSTILE}` }).click();
    await page.getByLabel("Requests per minute").fill("1");
    await page.getByRole("button", { name: "Save" }).click();
    await row(page, "1 requests").waitFor();
    assert.deepEqual([(await send(secret)).status, (await send(secret)).status], [200, 429]);
    await page.getByRole("button", { name: `Disable ${HOSTILE}` }).click();
    await row(page, "disabled").waitFor();
    assert.equal((await send(secret)).status, 401);
    await page.getByRole("button", { name: `Revoke ${HOSTILE}` }).click();
    await dialog(page).getByText("can't be brought back").waitFor();
    await page.getByRole("button", { name: "Keep it as it is" }).click();
    await row(page, HOSTILE).waitFor();
    await page.getByRole("button", { name: `Revoke ${HOSTILE}` }).click();
    await page.getByRole("button", { name: "Revoke it" }).click();
    await row(page, HOSTILE).waitFor({ state: "detached" });
    assert.equal((await send(secret)).status, 401);
  });
});

test("a name that a key can't have is refused in the form, which keeps what was typed", async () => {
  await asManager("/keys", async (page) => {
    await page.getByRole("button", { name: "Create a key" }).click();
    await page.getByLabel("Name").fill("kept");
    await page.getByLabel("Tokens per minute").fill("0.5");
    await page.getByRole("button", { name: "Create", exact: true }).click();
    await dialog(page).getByRole("alert").waitFor();
    assert.equal(await page.getByLabel("Name").inputValue(), "kept");
  });
});

test("budgets show what was spent and what remains", async () => {
  await asManager("/keys", async (page) => {
    const secret = await createKey(page, "thrifty", { "Limit in US dollars": "0.5" });
    assert.equal((await send(secret)).status, 200);
    await page.getByRole("link", { name: "Budgets" }).click();
    await row(page, "thrifty").getByText("$0.50").first().waitFor();
    await row(page, "thrifty").getByText("$0.000015").first().waitFor(); // 9 and 3 tokens
    await page.getByRole("button", { name: "Change the budget of thrifty" }).click();
    await page.getByLabel("Limit in US dollars").fill("0");
    await page.getByRole("button", { name: "Save" }).click();
    await page.waitForTimeout(200);
    assert.equal((await send(secret)).status, 402);
  });
});

test("a provider is seen to break, is reset and recovers", async () => {
  const key = await made("prober");
  await asManager("/providers", async (page) => {
    await row(page, "distant").getByText("fine").waitFor();
    upstream.mood = "broken";
    for (let number = 0; number < 5; number++) assert.ok((await send(key)).status >= 500);
    await row(page, "distant").getByText("broken").waitFor();
    await row(page, "distant").getByText("provider_unavailable").waitFor();
    await page.getByRole("button", { name: "Check Far away" }).click();
    await page.getByRole("button", { name: "Check now" }).click();
    await page.getByText("It doesn't answer").waitFor();
    await dialog(page).locator(".row").getByRole("button", { name: "Close" }).click();
    upstream.mood = "fine";
    await page.getByRole("button", { name: "Reset Far away" }).click();
    await dialog(page).getByText("as if nothing had failed").waitFor();
    await page.getByRole("button", { name: "Reset it" }).click();
    await row(page, "distant").getByText("fine").waitFor();
    assert.equal((await send(key)).status, 200);
    await row(page, "distant").getByText(/[1-9]\d* good/).first().waitFor();
  });
});

test("the log shows who asked what, how it ended, and no contents", async () => {
  const key = await made("logged");
  await send(key, { headers: { "http-referer": "https://app.example", "x-title": HOSTILE } });
  upstream.mood = "broken";
  await send(key);
  upstream.mood = "fine";
  await asManager("/requests", async (page) => {
    await row(page, HOSTILE).first().waitFor();
    assert.equal(await page.locator("main img").count(), 0);
    await page.getByRole("combobox", { name: "Key" }).selectOption("logged");
    await page.getByLabel("Outcome").selectOption("failed");
    await page.waitForFunction(() => document.querySelectorAll("main tbody tr").length === 1);
    await row(page, "provider_unavailable").waitFor();
    await page.getByLabel("Outcome").selectOption("");
    await row(page, HOSTILE).waitFor();
    const [saved] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: /as CSV/ }).click()]);
    const text = readFileSync(await saved.path(), "utf8");
    assert.match(text, /^id,created_at,/);
    assert.equal(text.trim().split("\r\n").length, 3);
    assert.ok(text.includes(HOSTILE) && !text.includes("All is well"));
    await page.getByLabel("Time").selectOption("1");
    await row(page, HOSTILE).waitFor();
    await resetProvider();
  });
});

async function resetProvider() {
  await send(managed.manager, { path: "/outrider/v1/providers/reset", body: { provider: "far", model: "distant", messages: undefined } });
}

test("a batch of somebody else is seen and cancelled", async () => {
  await resetProvider();
  const key = await made("batcher");
  upstream.mood = "silent";
  const line = { custom_id: "a", method: "POST", url: "/v1/chat/completions", body: { model: "distant", messages: [{ role: "user", content: "Hi" }] } };
  const form = new FormData();
  form.set("purpose", "batch");
  form.set("file", new Blob([JSON.stringify(line)]), "in.jsonl");
  const headers = { authorization: `Bearer ${key}` };
  const file = await (await fetch(`${managed.session.url}/v1/files`, { method: "POST", headers, body: form })).json();
  const body = { input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" };
  const { answer: batch } = await send(key, { path: "/v1/batches", body });
  await asManager("/batches", async (page) => {
    await row(page, batch.id).getByText("in progress").waitFor();
    await row(page, batch.id).getByText("batcher").waitFor();
    await page.getByRole("button", { name: `Cancel ${batch.id}` }).click();
    await page.getByRole("button", { name: "Cancel the batch" }).click();
    await row(page, batch.id).getByText("cancelled").waitFor();
    await page.getByLabel("Only those that haven't ended").check();
    await page.getByText("There are no batches.").waitFor();
  });
  upstream.mood = "fine";
});

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing serious in any section and all fit at 360 pixels, ${colorScheme}`, async () => {
    await asManager("", async (page) => {
      await page.getByLabel("Pull another model").waitFor();
      for (const name of ["Models", "Keys", "Budgets", "Providers", "Requests", "Batches"]) {
        await page.getByRole("navigation", { name: "Sections of administration" }).getByRole("link", { name }).click();
        await page.getByRole("region", { name }).first().waitFor();
        await page.waitForTimeout(300);
        assert.deepEqual(await findings(page), [], name);
        assert.ok((await overflow(page)) <= 0, `${name} is too wide`);
      }
    }, { colorScheme, viewport: { width: 360, height: 740 } });
  });
}

test("sections are reached and a key is created by the keyboard alone", async () => {
  await asManager("", async (page) => {
    await page.getByRole("link", { name: "Keys", exact: true }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Create a key" }).focus();
    await page.keyboard.press("Enter");
    await page.getByLabel("Name").waitFor();
    await page.keyboard.press("Tab");
    await page.getByLabel("Name").focus();
    await page.keyboard.type("typed");
    await page.keyboard.press("Enter");
    await page.getByLabel("Secret").waitFor();
    await page.keyboard.press("Escape");
    await row(page, "typed").waitFor();
  });
});
