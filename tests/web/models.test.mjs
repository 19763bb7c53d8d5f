// The models' pages: finding a model, everything that is known of it, and nothing hostile in it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { findings, inPage, overflow, start } from "./browser.mjs";

let session;
let model;
before(async () => {
  session = await start();
  model = (await (await fetch(`${session.url}/api/v1/models`)).json()).data[0];
});
after(() => session.close());

const open = (work, options = {}) => inPage(session, { path: `/models/${model.id}`, ...options }, work);
const section = (page, name) => page.locator("section", { has: page.getByRole("heading", { name, level: 2, exact: true }) });
const HOSTILE = "<img src=x onerror=alert(1)>/<b>y</b>";

/** Let these paths be answered by what is given, and load the page again. */
async function answered(page, context, replies) {
  for (const [path, value] of Object.entries(replies)) {
    await context.route((url) => decodeURIComponent(url.pathname) === path, (route) => route.fulfill({ json: value }));
  }
  await page.reload();
  await page.locator("main h1").waitFor();
}

function useOf(numDays, apps = []) {
  const at = (index, step) => new Date(Date.UTC(2026, 10, 1) + index * step).toISOString();
  return {
    model: model.id, as_of: at(0, 1), apps,
    days: Array.from({ length: numDays }, (_, day) => ({
      day: at(day, 86_400_000).slice(0, 10), requests: 10, failures: 0, prompt_tokens: 1000 + day, completion_tokens: 500,
    })),
    hours: Array.from({ length: 72 }, (_, hour) => ({
      begin: at(hour, 3_600_000), requests: hour === 5 ? 0 : 4, failures: hour === 9 ? 1 : 0, uptime: hour === 5 ? null : hour === 9 ? 0.75 : 1,
    })),
  };
}

test("a model is searched, filtered, opened and tried", async () => {
  await inPage(session, { path: "/models" }, async (page) => {
    const item = page.getByRole("link", { name: model.id });
    await item.waitFor();
    await page.getByLabel("Search").fill("no such model");
    await page.getByText("No model is like that").waitFor();
    assert.match(page.url(), /q=no/);
    await page.getByLabel("Search").fill(model.id.slice(0, 6));
    await page.getByLabel("Reads").selectOption("Images");
    await page.getByText("No model is like that").waitFor();
    await page.getByLabel("Reads").selectOption("Anything");
    await page.getByLabel("Can do").selectOption("Tools");
    await page.getByLabel("Sort by").selectOption("Longest context");
    await page.reload(); // what was chosen stands in the address
    assert.equal(await page.getByLabel("Sort by").inputValue(), "context-high-to-low");
    await item.click();
    await page.getByRole("link", { name: "Open in the playground" }).click();
    await page.waitForFunction((id) => document.querySelector(".top select")?.value === id, model.id);
  });
});

test("a new installation's page says in words what there is no data for", async () => {
  await open(async (page) => {
    assert.equal(await page.title(), `${model.id} · Outrider`);
    const overview = page.getByRole("region", { name: "Overview" });
    for (const text of [model.context_length.toLocaleString("en"), "135M", "Apache-2.0", "not published", "free"]) {
      await overview.getByText(text).first().waitFor();
    }
    assert.equal(await section(page, "Activity").getByText("Nothing has been counted yet.").count(), 1);
    await section(page, "Top apps").getByText("No app has named itself yet").waitFor();
    await section(page, "Benchmarks").getByText("No scores with a source").waitFor();
    await section(page, "Providers").getByRole("rowheader", { name: "Outrider" }).waitFor();
    await section(page, "Latency and throughput").getByText("Nobody has asked").waitFor();
    await section(page, "Strengths and limits").getByText("Understands English only").waitFor();
    await page.getByRole("button", { name: "Copy the model's id" }).click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), model.id);
  });
});

test("parameters stand there with the ranges and defaults of the served schema", async () => {
  await open(async (page) => {
    const row = section(page, "Parameters").getByRole("row", { name: /^temperature/ });
    await row.getByText("0 to 2").waitFor();
    await section(page, "Parameters").getByRole("row", { name: /^response_format/ }).waitFor();
    const names = await section(page, "Parameters").getByRole("rowheader").allTextContents();
    await section(page, "Parameters").getByRole("button", { name: "Parameter" }).click();
    const sorted = await section(page, "Parameters").getByRole("rowheader").allTextContents();
    assert.notDeepEqual(sorted, names);
    assert.deepEqual(sorted, [...names].sort((a, b) => a.localeCompare(b, "en", { numeric: true })));
  });
});

test("use is drawn, told as a table and downloaded", async () => {
  await open(async (page, front, context) => {
    await answered(page, context, { [`/outrider/v1/use/${model.id}`]: useOf(30, [{ title: "Notes", url: "https://notes.example", requests: 3, tokens: 1234 }]) });
    const activity = section(page, "Activity");
    await activity.locator("canvas").waitFor();
    await activity.locator(".plot").hover();
    await activity.locator(".keys b").first().waitFor();
    await activity.getByRole("button", { name: "Show as table" }).click();
    await activity.getByRole("row", { name: /2026-11-30.*1K.*500/ }).waitFor();
    const file = page.waitForEvent("download");
    await activity.getByRole("button", { name: "Download Tokens per day as CSV" }).click();
    assert.equal((await file).suggestedFilename(), "tokens-per-day.csv");
    await section(page, "Uptime").getByRole("button", { name: "Show as table" }).click();
    await section(page, "Uptime").getByText("75.0 %").waitFor();
    await section(page, "Top apps").getByRole("row", { name: /Notes.*1,234/ }).waitFor();
  });
});

test("a chart of 100,000 points is there in 200 ms of the page's time", async () => {
  await open(async (page, front, context) => {
    await answered(page, context, { [`/outrider/v1/use/${model.id}`]: useOf(30) });
    await section(page, "Activity").locator("canvas").waitFor(); // what draws has been loaded
    await answered(page, context, { [`/outrider/v1/use/${model.id}`]: { ...useOf(30), days: useOf(100_000).days } });
    const activity = section(page, "Activity");
    await activity.locator("canvas").waitFor({ timeout: 30_000 });
    await section(page, "Uptime").getByRole("button", { name: "Show as table" }).click();
    await page.evaluate(() => performance.clearMeasures());
    for (let round = 0; round < 3; round++) { // the best of three: other work shares the machine
      await activity.getByRole("button", { name: "Show as table" }).click();
      await activity.getByRole("button", { name: "Show as chart" }).click();
      await activity.locator("canvas").waitFor();
    }
    const times = await page.evaluate(() => performance.getEntriesByName("outrider.chart").map(({ duration }) => duration));
    assert.equal(times.length, 3);
    assert.ok(Math.min(...times) <= 200, `${times} ms`);
  });
});

test("code samples and schemas follow the wire", async () => {
  await open(async (page) => {
    const code = section(page, "Code");
    await code.getByRole("button", { name: "Dataoorts" }).click();
    await code.getByRole("button", { name: "Python" }).click();
    await code.locator("code", { hasText: "/api/v1" }).waitFor();
    const schemas = section(page, "Schemas");
    await schemas.getByRole("button", { name: "OpenRouter" }).click();
    const file = page.waitForEvent("download");
    await schemas.getByRole("button", { name: "Download openrouter-input.schema.json" }).click();
    const stream = await (await file).createReadStream();
    const schema = JSON.parse(Buffer.concat(await stream.toArray()).toString());
    assert.ok(JSON.stringify(schema).includes("#/$defs/"));
    for (const [, name] of JSON.stringify(schema).matchAll(/"#\/\$defs\/(\w+)"/g)) assert.ok(name in schema.$defs, name);
    await schemas.getByRole("button", { name: "Workers AI" }).click();
    await schemas.getByRole("button", { name: "Streamed output" }).click();
    await schemas.getByRole("button", { name: /^Show/ }).click();
    await schemas.locator("pre").waitFor();
  });
});

test("a model that makes embeddings is shown as one", async () => {
  await open(async (page, front, context) => {
    const embedder = { ...model, id: "maker/embedder", supported_parameters: [], architecture: { ...model.architecture, output_modalities: ["embeddings"] } };
    await page.goto(`${front.url}/models`);
    await answered(page, context, {
      "/api/v1/models": { data: [embedder], total_count: 1 },
      "/api/v1/model/maker/embedder": { data: embedder },
      "/api/v1/models/maker/embedder/endpoints": { data: { endpoints: [] } },
      "/outrider/v1/models/maker/embedder": { id: "maker/embedder", aliases: [], facts: null },
      "/outrider/v1/use/maker/embedder": useOf(3),
    });
    await page.getByRole("link", { name: "maker/embedder" }).click();
    await section(page, "Code").locator("code", { hasText: "/v1/embeddings" }).waitFor();
    assert.equal(await page.getByRole("link", { name: "Open in the playground" }).count(), 0);
    assert.equal(await section(page, "Parameters").count(), 0);
    const schemas = section(page, "Schemas");
    await schemas.getByRole("button", { name: "Show openai-input.schema.json" }).click();
    await schemas.locator("pre", { hasText: "EmbeddingsBody" }).waitFor();
  });
});

test("a model that isn't there, and a key that is missing, are said", async () => {
  await inPage(session, { path: "/models/no/such%20model", allowed: [/404/] }, async (page) => {
    await page.getByRole("alert").waitFor();
    await page.getByRole("link", { name: "All models" }).click();
    await page.getByRole("link", { name: model.id }).waitFor();
  });
  await open(async (page, front, context) => {
    const refusal = { status: 401, json: { error: { message: "no key", code: "invalid_api_key", type: "x", param: null } } };
    await context.route((url) => url.pathname.startsWith("/outrider/v1/use/"), (route) => route.fulfill(refusal));
    await page.reload();
    await section(page, "Activity").getByRole("button", { name: "Enter a key" }).waitFor();
    await section(page, "Parameters").getByRole("row", { name: /^temperature/ }).waitFor();
  }, { allowed: [/401/] });
});

test("hostile names of models, providers and apps stay text", async () => {
  await open(async (page, front, context) => {
    const evil = { ...model, id: HOSTILE, name: HOSTILE, description: HOSTILE };
    const endpoints = await (await fetch(`${session.url}/api/v1/models/${model.id}/endpoints`)).json();
    const apps = [{ title: "<script>alert(1)</script>", url: "javascript:alert(1)", requests: 1, tokens: 1 }];
    await page.goto(`${front.url}/models`);
    await answered(page, context, {
      "/api/v1/models": { data: [evil], total_count: 1 },
      [`/api/v1/model/${HOSTILE}`]: { data: evil },
      [`/api/v1/models/${HOSTILE}/endpoints`]: { data: { endpoints: endpoints.data.endpoints.map((one) => ({ ...one, provider_name: HOSTILE })) } },
      [`/outrider/v1/models/${HOSTILE}`]: { id: HOSTILE, aliases: [HOSTILE], facts: null },
      [`/outrider/v1/use/${HOSTILE}`]: useOf(3, apps),
    });
    await page.getByRole("link", { name: HOSTILE }).click();
    await section(page, "Top apps").getByText("<script>alert(1)</script>").waitFor();
    await section(page, "Providers").getByText(HOSTILE).waitFor();
    await section(page, "Activity").locator("canvas").waitFor();
    await page.getByRole("heading", { name: HOSTILE }).waitFor();
    const active = await page.locator("main").evaluate((root) => [...root.querySelectorAll("script, img, iframe, [onerror]")].map((one) => one.outerHTML)
      .concat([...root.querySelectorAll("a")].map((one) => one.href).filter((href) => /^javascript:/i.test(href))));
    assert.deepEqual(active, []);
  });
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [1280, 360]) {
    test(`axe finds nothing serious on the models' pages, ${colorScheme} at ${width} pixels`, async () => {
      await open(async (page, front, context) => {
        await answered(page, context, { [`/outrider/v1/use/${model.id}`]: useOf(30, [{ title: "Notes", url: "https://notes.example", requests: 3, tokens: 1234 }]) });
        await section(page, "Activity").locator("canvas").waitFor();
        await section(page, "Uptime").getByRole("button", { name: "Show as table" }).click();
        await section(page, "Schemas").getByRole("button", { name: /^Show/ }).click();
        await page.waitForTimeout(300);
        assert.deepEqual(await findings(page), []);
        assert.equal(await overflow(page), 0, "pixels too wide");
        await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Models" }).click();
        await page.getByRole("link", { name: model.id }).waitFor();
        assert.deepEqual(await findings(page), []);
        assert.equal(await overflow(page), 0, "pixels too wide");
      }, { colorScheme, viewport: { width, height: 760 } });
    });
  }
}
