// A live server with the default model, the front before it, and Debian's Chromium. A page fails its
// test by a console error, an exception, or a request to anywhere else.

import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { startFront } from "./front.mjs";

// These are the tests' own: the server refuses variables under its prefix that are no setting of it.
const { OUTRIDER_PYTHON, OUTRIDER_URL, OUTRIDER_MODEL, ...ENVIRONMENT } = process.env;
const PYTHON = OUTRIDER_PYTHON ?? "python3";
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const MODEL = OUTRIDER_MODEL ?? "smollm2-135m-instruct";
const OPTIONS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

/**
 * Start everything; `close` stops it. A server of a test's own is told by its model, further options
 * of `serve`, variables, and what to do with its data folder before it starts; OUTRIDER_URL can't
 * stand for it.
 */
export async function start(own = null) {
  const { url, stop, newKey } = await startServer(own);
  const front = await startFront(url);
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: OPTIONS });
  const close = async () => {
    await browser.close();
    front.close();
    await stop();
  };
  return { url, front, browser, close, newKey };
}

async function startServer(own) {
  if (OUTRIDER_URL && !own) return { url: OUTRIDER_URL, stop: async () => {}, newKey: null };
  const folder = mkdtempSync(join(tmpdir(), "outrider-web-")); // a ledger of its own
  own?.prepare?.(folder);
  const options = { stdio: ["ignore", "pipe", "inherit"], env: { ...ENVIRONMENT, OUTRIDER_DATA_DIR: folder, ...own?.env } };
  const server = spawn(PYTHON, ["-m", "outrider", "serve", own?.model ?? MODEL, "--port", "0", ...(own?.options ?? [])], options);
  const url = await new Promise((resolve, reject) => {
    let said = "";
    server.stdout.on("data", (data) => {
      said += data;
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said);
      if (found) resolve(found[0]);
    });
    server.on("exit", (code) => reject(new Error(`the server ended with ${code}: ${said}`)));
  });
  const stop = () => new Promise((resolve) => {
    server.removeAllListeners("exit");
    server.on("exit", () => resolve(rmSync(folder, { recursive: true, force: true })));
    server.kill("SIGTERM");
  });
  const newKey = (...args) => execFileSync(PYTHON, ["-m", "outrider", "keys", "create", ...args], { env: options.env, stdio: ["ignore", "pipe", "ignore"] }).toString().trim();
  return { url, stop, newKey };
}

/** Run a command of Outrider's and give what it prints. */
export function outrider(args, env) {
  const { status, stdout, stderr } = spawnSync(PYTHON, ["-m", "outrider", ...args], { env: { ...ENVIRONMENT, ...env }, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout.trim();
}

/** Start a Python script that prints a line when it is ready and ends with its stdin; gives both. */
export async function script(...args) {
  const child = spawn(PYTHON, args, { stdio: ["pipe", "pipe", "inherit"], env: ENVIRONMENT });
  const [line] = await once(child.stdout, "data");
  return { line: String(line).trim(), stop: () => child.stdin.end() };
}

/** Run a test in a page of its own, with what a person sees afterwards checked for errors. */
export async function inPage(session, options, work) {
  const { front, browser } = session;
  Object.assign(front, { asked: [], script: [], models: null, isDown: false });
  const { allowed = [], path = "/", ready = isReady(path), ...rest } = options;
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...rest });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: front.url });
  const wrong = [];
  context.on("request", (request) => {
    if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(front.url)) wrong.push(`left for ${request.url()}`);
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    const text = `${message.text()} ${message.location().url}`;
    if (message.type() === "error" && !allowed.some((pattern) => pattern.test(text))) wrong.push(text);
  });
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("dialog", (dialog) => {
    wrong.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.setDefaultTimeout(15_000);
  try {
    await page.goto(front.url + path);
    await ready(page);
    await work(page, front, context);
    assert.deepEqual(wrong, []);
  } finally {
    await context.close();
  }
}

/** The playground is ready when one can write, another page when its heading is there. */
function isReady(path) {
  return (page) => (/^\/(chat\/|\?|#|$)/.test(path) ? page.getByLabel("Your message") : page.locator("main h1")).waitFor();
}

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe finds that is serious. */
export async function findings(page) {
  // Not as a script element, which the page's policy forbids.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).slice(0, 3).join(" ")}`);
}

/** Fill a data folder with the requests of some weeks. */
export function fillLedger(folder) {
  execFileSync(PYTHON, [new URL("fill_ledger.py", import.meta.url).pathname, folder], { env: ENVIRONMENT });
}

/** How many pixels the page is too wide for its window. */
export const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);

export const answers = (page) => page.getByRole("article", { name: "Answer" });

export const said = (page, text) => page.locator(".markdown", { hasText: text }).first().waitFor();

/** Write a message, send it and wait until the answer is complete. */
export async function ask(page, text) {
  const before = await page.getByRole("button", { name: "Answer again" }).count();
  await page.getByLabel("Your message").fill(text);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Answer again" }).nth(before).waitFor();
}

export async function setParameter(page, name, value) {
  await page.locator(`#parameter-${name}`).fill(String(value));
}

/** Have the engine answer the same with every run, and in so many tokens: a drawn answer may be empty or endless. */
export async function answerSurely(page, maxTokens) {
  await setParameter(page, "max_tokens", maxTokens);
  await setParameter(page, "temperature", 0);
}

export async function openSection(page, title) {
  await page.locator("summary", { hasText: title }).click();
}

export const last = (list) => list[list.length - 1];
