// The statistics as a person reads them, over a ledger of some weeks and a live engine.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { answerSurely, ask, fillLedger, findings, inPage, overflow, start } from "./browser.mjs";

let session;
before(async () => { session = await start({ prepare: fillLedger }); });
after(() => session.close());

const inStats = (options, work) => inPage(session, { path: "/stats", ...options }, work);
const table = (page, name) => page.getByRole("region", { name });
const figure = (page, title) => page.locator("figure", { hasText: title });
const drawn = (page, title) => figure(page, title).locator("canvas").waitFor();

async function saved(page, click) {
  const [download] = await Promise.all([page.waitForEvent("download"), click()]);
  return { name: download.suggestedFilename(), text: readFileSync(await download.path(), "utf8") };
}

test("a week by model is shown first, with charts, sums and tables", async () => {
  await inStats({}, async (page) => {
    for (const title of ["Tokens by model", "Cost by model", "Requests by model", "Time to first token", "Whole time", "Errors by origin"]) {
      await drawn(page, title);
    }
    assert.equal(await page.getByRole("button", { name: "7 days" }).getAttribute("aria-pressed"), "true");
    assert.match(await page.locator(".figures").first().textContent(), /Requests[\d,]+Failed[\d.]+ %/);
    await table(page, "Usage by model").getByRole("rowheader", { name: "meta-llama/llama-4-scout" }).waitFor();
    await table(page, "Errors by origin and status").getByText("200, cut in mid-answer").waitFor();
  });
});

test("what is shown is in the address, for a link and for the way back", async () => {
  await inStats({}, async (page, front) => {
    await page.getByLabel("Group by").selectOption("app");
    await page.getByRole("button", { name: "30 days" }).click();
    await drawn(page, "Tokens by app");
    assert.equal(new URL(page.url()).search, "?range=30d&group_by=app");
    await page.goBack();
    await page.locator("button[aria-pressed=true]", { hasText: "7 days" }).waitFor();
    await page.goto(`${front.url}/stats?range=90d&group_by=provider`);
    await drawn(page, "Cost by provider");
    await table(page, "Usage by provider").getByRole("rowheader", { name: "vllm" }).waitFor();
    await page.goto(`${front.url}/stats?range=9y&group_by=x`);
    await drawn(page, "Cost by model");
  });
});

test("any days of a year can be chosen, and others are refused in words", async () => {
  await inStats({}, async (page) => {
    const day = (age) => new Date(Date.now() - age * 86_400_000).toISOString().slice(0, 10);
    await page.getByRole("button", { name: "Custom" }).click();
    await page.getByLabel("From").fill(day(2));
    await page.getByLabel("to", { exact: true }).fill(day(20));
    await page.getByText("the first one first").waitFor();
    assert.ok(await page.getByRole("button", { name: "Show", exact: true }).isDisabled());
    await page.getByLabel("From").fill(day(20));
    await page.getByLabel("to", { exact: true }).fill(day(2));
    await page.keyboard.press("Enter");
    await page.waitForURL(/start_date=/);
    await drawn(page, "Tokens by model");
    await figure(page, "Requests by model").getByRole("button", { name: "Show as table" }).click();
    assert.equal(await table(page, "Requests by model").getByRole("rowheader").count(), 19);
  });
});

test("every chart has its values as a table and as CSV, and CSV runs no formula", async () => {
  await inStats({ path: "/stats?range=30d&group_by=app" }, async (page) => {
    for (const chart of await page.locator("figure.chart", { hasText: "by app" }).all()) {
      await chart.getByRole("button", { name: "Show as table" }).click();
      assert.equal(await chart.getByRole("rowheader").count(), 30);
    }
    const own = await saved(page, () => page.getByRole("button", { name: "Download Cost by app as CSV" }).click());
    assert.match(own.text, /'=HYPERLINK/);
    const whole = await saved(page, () => page.getByRole("link", { name: "Download usage as CSV" }).click());
    assert.match(whole.name, /^outrider-usage.*\.csv$/);
    assert.match(whole.text, /^begin_utc,app,label,requests/);
    assert.match(whole.text, /"'=HYPERLINK\(/);
    assert.ok(!/(^|,)"?[=+@]/m.test(whole.text));
  });
});

test("the engine's batch and tokens per second are seen while it answers", async () => {
  await inPage(session, {}, async (page) => {
    await answerSurely(page, 24);
    await ask(page, "What is a lighthouse?");
    await page.getByRole("link", { name: "Statistics" }).click();
    await page.getByRole("heading", { name: "Engines, live" }).waitFor();
    for (const title of ["Sequences", "Tokens per second", "KV cache and prefix hits"]) await drawn(page, title);
    await figure(page, "Tokens per second").getByRole("button", { name: "Show as table" }).click();
    await page.waitForFunction(() => [...document.querySelectorAll("figure.chart td")].some((cell) => Number(cell.textContent) > 0));
    await page.getByRole("button", { name: "24 hours" }).click();
    await table(page, "Usage by model").getByRole("rowheader", { name: "smollm2-135m-instruct" }).waitFor();
  });
});

test("a key that infers sees its own, and its files are fetched with it", async () => {
  await inPage(session, { path: "/docs" }, async (page, front, context) => {
    const asked = [];
    await context.route("**/api/v1/key", (route) => route.fulfill({ json: { data: { is_management_key: false } } }));
    await context.route("**/outrider/v1/statistics/**", (route) => {
      asked.push([new URL(route.request().url()).pathname.split("/").at(-1), route.request().headers().authorization]);
      return route.continue();
    });
    await page.evaluate(() => sessionStorage.setItem("outrider.key", "sk-mine"));
    await page.goto(`${front.url}/stats`);
    await page.getByText("What the key of this tab did.").waitFor();
    await page.getByText("shown to management keys").waitFor();
    const { text } = await saved(page, () => page.getByRole("link", { name: "Download usage as CSV" }).click());
    assert.match(text, /^begin_utc,model/);
    assert.deepEqual([...new Set(asked.map(String))].sort(), ["errors,Bearer sk-mine", "latency,Bearer sk-mine", "usage,Bearer sk-mine"]);
  });
});

test("nothing hostile in a name becomes active", async () => {
  await inStats({ path: "/stats?group_by=app&range=90d" }, async (page) => {
    await table(page, "Usage by app").getByText("<img src=x onerror=alert(1)>").waitFor();
    await figure(page, "Tokens by app").getByText("<img src=x").first().waitFor();
    assert.equal(await page.locator("main img, main script, main [onerror]").count(), 0);
  });
});

test("a time without requests and a server that is gone are told in words", async () => {
  await inStats({ path: "/stats?start_date=2020-01-01&end_date=2020-01-31", allowed: [/ERR_|Failed to load/] }, async (page, front) => {
    await page.getByText("Nothing was asked in this time").waitFor();
    await drawn(page, "Tokens per second");
    assert.equal(await page.locator("figure", { hasText: "by model" }).count(), 0);
    front.isDown = true;
    await page.getByRole("button", { name: "24 hours" }).click();
    await page.getByText("The server doesn't answer").first().waitFor();
    front.isDown = false;
    await page.getByRole("button", { name: "Try again" }).click();
    await drawn(page, "Tokens by model");
  });
});

test("the keyboard chooses a range and sorts a table", async () => {
  await inStats({}, async (page) => {
    await drawn(page, "Tokens by model");
    await page.getByRole("button", { name: "7 days" }).focus();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.waitForURL(/range=30d/);
    assert.equal(await page.locator(":focus").textContent(), "30 days");
    await table(page, "Usage by model").getByRole("button", { name: "Requests" }).focus();
    await page.keyboard.press("Enter");
    await page.locator("th[aria-sort=descending]", { hasText: "Requests" }).waitFor();
  });
});

for (const [colorScheme, width] of [["light", 360], ["dark", 1280]]) {
  test(`it fits and axe finds nothing serious, ${colorScheme} at ${width} pixels`, async () => {
    await inStats({ colorScheme, viewport: { width, height: 760 } }, async (page) => {
      await drawn(page, "Errors by origin");
      await drawn(page, "Tokens per second");
      await figure(page, "Cost by model").getByRole("button", { name: "Show as table" }).click();
      assert.deepEqual(await findings(page), []);
      assert.equal(await overflow(page), 0, "pixels too wide");
    });
  });
}
