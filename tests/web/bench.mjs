// Measures the page: what comes first, when one can write, typing and scrolling in a long chat, and
// what a stream costs. Proves nothing and fails nothing; figures belong to a machine that is idle.

import { inPage, start } from "./browser.mjs";

const LOADS = 9;
const MESSAGES = 500;
const STREAM_S = 6;
const TOKENS_PER_S = 100;
const TEXT = "Some **bold** text with `code` in it, and a list:\n\n- one\n- two\n\n" +
  "A sentence of ordinary length that fills the paragraph. ".repeat(12) + "\n\n```python\nprint(1)\n```\n";

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const share = (list, part) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * part))];
const show = (name, value) => console.log(`${name.padEnd(46)} ${value}`);
const ms = (value) => `${value.toFixed(0)} ms`;

/** Before anything of the page runs: notes when one can write. */
function watchForField() {
  window.usableMs = new Promise((resolve) => {
    const look = () => {
      if (document.querySelector('[aria-label="Your message"]')) resolve(performance.now());
      else requestAnimationFrame(look);
    };
    look();
  });
}

/** Load the page in a browser without a cache, from the server itself. */
async function load({ browser, url }) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  await page.addInitScript(watchForField);
  await page.goto(url, { waitUntil: "networkidle" });
  const found = await page.evaluate(async () => ({
    usableMs: await window.usableMs,
    paintMs: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0,
    resources: performance.getEntriesByType("resource").map(({ name, startTime, responseEnd, encodedBodySize }) =>
      ({ name: new URL(name).pathname, startTime, responseEnd, encodedBodySize })),
  }));
  await context.close();
  return found;
}

async function loads(session) {
  const first = await load(session);
  show("first load of a fresh server, usable after", ms(first.usableMs));
  const all = [];
  for (let round = 0; round < LOADS; round++) all.push(await load(session));
  show(`load without a cache, usable after (of ${LOADS})`, `median ${ms(median(all.map(({ usableMs }) => usableMs)))}, worst ${ms(Math.max(...all.map(({ usableMs }) => usableMs)))}`);
  show("first paint", `median ${ms(median(all.map(({ paintMs }) => paintMs)))}`);
  const assets = all[0].resources.filter(({ name }) => name.startsWith("/assets/"));
  show("first load, compressed", `${(assets.reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0) / 1000).toFixed(1)} kB in ${assets.length} files`);
  for (const { name, startTime, responseEnd, encodedBodySize } of all[all.length - 1].resources) {
    show(`  ${name.replace("/assets/", "")}`, `${ms(startTime)} to ${ms(responseEnd)}, ${(encodedBodySize / 1000).toFixed(1)} kB`);
  }
}

function longChat() {
  const messages = {};
  let parent = null;
  for (let at = 0; at < MESSAGES; at++) {
    const [id, role] = [`m${at}`, at % 2 ? "assistant" : "user"];
    messages[id] = { id, parent, role, text: at % 2 ? TEXT : `Question ${at}`, images: [], calls: [], state: "done", at: at + 1 };
    parent = id;
  }
  const thread = { model: "", system: "", parameters: {}, tools: "", toolChoice: "auto", schema: "", isSchemaOn: false, messages, head: parent };
  return { format: "outrider.conversations.v1", conversations: [{ id: "long", title: "Long", created: 1, updated: 2, threads: [thread] }] };
}

function watchEvents() {
  window.keyMs = [];
  const take = (list) => {
    for (const { name, duration } of list.getEntries()) if (/key|input/.test(name)) window.keyMs.push(duration);
  };
  new PerformanceObserver(take).observe({ type: "event", durationThreshold: 16 });
}

/** Frames while it scrolls from end to end, as a wheel does. */
async function scrolled(page) {
  await page.evaluate(() => {
    window.frameMs = [];
    let last = performance.now();
    const note = (now) => {
      window.frameMs.push(now - last);
      last = now;
      requestAnimationFrame(note);
    };
    requestAnimationFrame(note);
  });
  await page.locator(".scroller").hover();
  for (let step = 0; step < 60; step++) await page.mouse.wheel(0, step < 30 ? -1500 : 1500);
  return page.evaluate(() => window.frameMs.slice(1));
}

async function typing(session) {
  await inPage(session, { allowed: [/./] }, async (page) => {
    const buffer = Buffer.from(JSON.stringify(longChat()));
    await page.getByLabel("File to import").setInputFiles({ name: "long.json", mimeType: "application/json", buffer });
    await page.locator(".message").nth(MESSAGES - 1).waitFor({ state: "attached" });
    await page.waitForTimeout(1500);
    await page.evaluate(watchEvents);
    await page.getByLabel("Your message").focus();
    await page.keyboard.type("The quick brown fox jumps over the lazy dog, and so on and on.", { delay: 30 });
    await page.waitForTimeout(300);
    const keys = await page.evaluate(() => window.keyMs);
    show(`${MESSAGES} messages, from a key to its paint`, `median ${ms(median(keys))}, 95 % ${ms(share(keys, 0.95))}, worst ${ms(Math.max(...keys))} (${keys.length} events)`);
    const frames = await scrolled(page);
    show(`${MESSAGES} messages, frames while scrolling`, `median ${ms(median(frames))}, 95 % ${ms(share(frames, 0.95))}, worst ${ms(Math.max(...frames))}`);
  });
}

/** Script: tokens at an even rate, as a person would see them come from a fast model. */
function paced(pieces) {
  return async (reply) => {
    reply.writeHead(200, { "content-type": "text/event-stream" });
    const begin = performance.now();
    const send = (value) => reply.write(`data: ${JSON.stringify(value)}\n\n`);
    for (const [at, content] of pieces.entries()) {
      const waitMs = begin + (at * 1000) / TOKENS_PER_S - performance.now();
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      send({ provider: "Scripted", choices: [{ delta: { content } }] });
    }
    send({ choices: [{ delta: {}, finish_reason: "stop" }] });
    reply.end("data: [DONE]\n\n");
  };
}

async function streaming(session) {
  await inPage(session, { allowed: [/./] }, async (page, front, context) => {
    const tab = await context.newCDPSession(page);
    await tab.send("Performance.enable");
    const taskS = async () => (await tab.send("Performance.getMetrics")).metrics.find(({ name }) => name === "TaskDuration").value;
    const browser = await session.browser.newBrowserCDPSession();
    const processS = async () => (await browser.send("SystemInfo.getProcessInfo")).processInfo.filter(({ type }) => type === "renderer").reduce((sum, { cpuTime }) => sum + cpuTime, 0);
    const text = TEXT.repeat(9).match(/[\s\S]{1,5}/g).slice(0, STREAM_S * TOKENS_PER_S);
    front.script.push(paced(text));
    await page.getByLabel("Your message").fill("Go");
    const [tasks, processes, begin] = [await taskS(), await processS(), performance.now()];
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Answer again" }).waitFor();
    const tookS = (performance.now() - begin) / 1000;
    const percent = (seconds) => `${((seconds / tookS) * 100).toFixed(0)} %`;
    show(`${TOKENS_PER_S} tokens/s for ${tookS.toFixed(1)} s, of a core`, `${percent((await taskS()) - tasks)} on the page's thread, ${percent((await processS()) - processes)} in its process`);
  });
}

const session = await start();
try {
  await loads(session);
  await typing(session);
  await streaming(session);
} finally {
  await session.close();
}
