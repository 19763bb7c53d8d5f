// Draws the page in both themes, wide and narrow, into build/screenshots.

import { mkdirSync } from "node:fs";
import { ask, fillLedger, inPage, openSection, setParameter, start } from "./browser.mjs";
import { says } from "./front.mjs";
import { useKey } from "./history.mjs";
import { startManaged } from "./managed.mjs";

const OUT = "build/screenshots";
mkdirSync(OUT, { recursive: true });

const ANSWER = [
  "A lighthouse lens gathers the light of a small lamp into one beam. Fresnel’s idea, from 1822, was to keep only the surfaces that bend light:\n\n",
  "1. a **bull’s-eye** in the middle,\n2. rings of *prisms* around it,\n3. and mirrors of glass at the edge.\n\n",
  "How far it is seen follows from the height $h$ of the lamp, with $R$ the radius of the Earth:\n\n$$d \\approx \\sqrt{2 R h}$$\n\n",
  "```python\nfrom math import sqrt\n\ndef horizon_km(height_m: float) -> float:\n    \"\"\"Distance of the horizon, without refraction.\"\"\"\n    return sqrt(2 * 6371 * height_m / 1000)\n```\n\n",
  "| Lighthouse | Height | Seen from |\n|---|---|---|\n| Île Vierge | 82.5 m | 32 km |\n| Bell Rock | 36 m | 21 km |\n",
];
const QUESTION = "How does a lighthouse lens work, and how far can one see it?";

async function chat(page, front) {
  front.script.push(says(ANSWER));
  await ask(page, QUESTION);
  await page.locator("math msqrt").waitFor();
  await page.locator(".hljs-keyword").first().waitFor();
  await page.locator(".scroller").evaluate((element) => element.scrollTo(0, 0));
}

const SCENES = {
  async welcome() {},
  chat,
  async history(page, front) {
    await chat(page, front);
    const key = session.newKey(`pictures ${Math.random()}`);
    await new Promise((resolve) => setTimeout(resolve, 1500)); // until the server has seen it
    if (!(await page.locator(".history").count())) await page.getByRole("button", { name: "Conversations", exact: true }).click();
    await useKey(page, key);
    await page.getByRole("button", { name: "Leave here" }).waitFor();
  },
  async compare(page, front) {
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    await page.getByRole("button", { name: "Compare: add a pane" }).click();
    front.script.push(says(ANSWER.slice(0, 2)), says(["It bends the light of a lamp into one beam, ring by ring."]));
    await page.getByLabel("Your message").fill(QUESTION);
    await page.keyboard.press("Enter");
    await page.locator(".facts").nth(1).waitFor();
  },
  async tokens(page) {
    await setParameter(page, "max_tokens", 60);
    await setParameter(page, "top_logprobs", 5);
    await setParameter(page, "seed", 7);
    await ask(page, "What is a lighthouse?");
    await page.getByRole("button", { name: "Show tokens" }).click();
    await page.locator(".token").nth(12).hover();
  },
  async tools(page, front) {
    await openSection(page, "Tools");
    await page.getByRole("button", { name: "Put in an example" }).first().click();
    const call = { index: 0, id: "c", function: { name: "get_weather", arguments: '{"city": "Brest"}' } };
    front.script.push(says([], { delta: { tool_calls: [call] } }));
    await ask(page, "Is there fog at Île Vierge?");
    await page.locator(".settings .panel-body").evaluate((element) => element.scrollTo(0, 1e6));
  },
  async code(page) {
    await page.getByLabel("Your message").fill(QUESTION);
    await page.getByRole("button", { name: "View code" }).click();
    await page.getByRole("button", { name: "Python" }).click();
    await page.locator(".hljs-keyword").first().waitFor();
  },
  async trouble(page, front) {
    front.script.push(says(ANSWER.slice(0, 1), { cut: true }));
    await ask(page, QUESTION);
  },
};

// Pages beside the playground: where they are, and what is done before the picture.
const PAGES = {
  stats: ["/stats?range=30d", async (page) => {
    await page.locator("figure", { hasText: "Tokens per second" }).locator("canvas").waitFor();
  }],
  "stats-times": ["/stats?range=90d&group_by=app", async (page) => {
    await page.locator("figure", { hasText: "Errors by origin" }).locator("canvas").waitFor();
    await page.getByRole("heading", { name: "Times" }).evaluate((element) => element.scrollIntoView());
  }],
  docs: ["/docs/postV1ChatCompletions", async (page) => {
    await page.getByText("Fields of messages").click();
    await page.getByText("Fields of content").click();
  }],
  "docs-answer": ["/docs/postV1ChatCompletions", async (page) => {
    await page.getByLabel("Stream the answer").check();
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByText("complete").waitFor();
    await page.getByRole("button", { name: "Send" }).scrollIntoViewIfNeeded();
  }],
};

const day = (at) => new Date(Date.UTC(2026, 9, 23) + at * 86_400_000).toISOString();
const USE = {
  days: Array.from({ length: 30 }, (_, at) => ({
    day: day(at).slice(0, 10), requests: 100, failures: 0,
    prompt_tokens: Math.round(40_000 + 25_000 * Math.sin(at / 3) + 900 * at), completion_tokens: Math.round(18_000 + 9000 * Math.cos(at / 4)),
  })),
  hours: Array.from({ length: 72 }, (_, at) => ({ begin: day(27 + at / 24), requests: 20, refused: 0, failures: at === 40 ? 1 : 0, uptime: at === 40 ? 0.95 : 1 })),
  apps: [{ title: "Notes", url: "https://notes.example", requests: 320, tokens: 812_345 }, { title: "Reader", url: "https://reader.example", requests: 120, tokens: 212_345 }],
};

async function models(page) {
  await page.locator(".model").first().waitFor();
}

async function model(page) {
  await page.context().route((url) => url.pathname.startsWith("/outrider/v1/use/"), (route) => route.fulfill({ json: USE }));
  await page.locator(".model a").first().click();
  await page.locator("canvas").nth(1).waitFor();
}

const session = await start({ prepare: fillLedger });
for (const colorScheme of ["light", "dark"]) {
  for (const [name, scene] of Object.entries(SCENES)) {
    await draw(`${name}-${colorScheme}`, scene, { colorScheme, viewport: { width: 1360, height: 850 } });
  }
  for (const [name, [path, scene]] of Object.entries(PAGES)) {
    await draw(`${name}-${colorScheme}`, scene, { path, colorScheme, viewport: { width: 1360, height: 850 } });
  }
  for (const [name, scene] of Object.entries({ models, model })) {
    const options = { colorScheme, path: "/models" };
    await draw(`${name}-${colorScheme}`, scene, { ...options, viewport: { width: 1360, height: 850 } });
    await draw(`${name}-phone-${colorScheme}`, scene, { ...options, viewport: { width: 360, height: 740 } });
  }
  await draw(`phone-${colorScheme}`, chat, { colorScheme, viewport: { width: 360, height: 740 } });
}
await session.close();
await drawAdministration();

async function draw(name, scene, options) {
  await inPage(session, { ...options, allowed: [/./] }, async (page, front) => {
    if (!options.path) await page.getByLabel("Model of the chat").waitFor();
    await scene(page, front);
    await page.waitForTimeout(250);
    await page.screenshot({ path: `${OUT}/${name}.png` });
  });
  console.log(`${OUT}/${name}.png`);
}

/** Draw the sections of administration, on a server that has something to show. */
async function drawAdministration() {
  const managed = await startManaged();
  await busyDay(managed);
  for (const colorScheme of ["light", "dark"]) {
    for (const section of ["models", "keys", "budgets", "providers", "requests", "batches"]) {
      const options = { colorScheme, viewport: { width: 1360, height: 850 } };
      await managed.asManager(section === "models" ? "" : `/${section}`, async (page) => {
        await page.getByRole("rowheader").or(page.locator(".nothing")).first().waitFor();
        await page.waitForTimeout(250);
        await page.screenshot({ path: `${OUT}/admin-${section}-${colorScheme}.png` });
      }, options);
      console.log(`${OUT}/admin-${section}-${colorScheme}.png`);
    }
  }
  await managed.close();
}

async function busyDay({ send, manager, upstream }) {
  const keys = [];
  for (const body of [
    { name: "Website", limit: 20, limit_reset: "monthly" },
    { name: "Night shift", limit: 0.0001, limit_reset: "daily", requests_per_minute: 60 },
    { name: "Research", allowed_models: ["distant"], tokens_per_minute: 100_000 },
  ]) keys.push((await send(manager, { path: "/api/v1/keys", body })).answer.key);
  const headers = { "http-referer": "https://reader.example", "x-title": "Reader" };
  for (let number = 0; number < 12; number++) await send(keys[number % 3], { headers });
  upstream.mood = "broken";
  for (let number = 0; number < 5; number++) await send(keys[2], { headers });
  await send(manager, { path: "/outrider/v1/models/pull", body: { model: "hf:nobody/nothing" } });
}
