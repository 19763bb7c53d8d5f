// What the tests of administration share: a server without an engine that asks for keys, whose one
// provider does as it is told, and a hub of models.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { inPage, outrider, script, start } from "./browser.mjs";
import { startUpstream } from "./upstream.mjs";

export const HERE = new URL(".", import.meta.url).pathname;
const FILE = "SmolLM2-135M-Instruct.Q4_1.gguf";
export const MODEL_FILE = join(process.env.OUTRIDER_HOME ?? join(homedir(), ".cache/outrider"), "models/smollm2-135m-instruct", FILE);
export const SERVED = `demo/smol/${FILE}`;
const HUB_BYTES_PER_S = 40 << 20; // so that its progress can be seen
const CONFIG = (url) => `
[providers.far]
kind = "openai"
display_name = "Far away"
base_url = "${url}"
[providers.far.models.distant]
price = { prompt = 1.0, completion = 2.0 }
context_length = 8192
`;

export async function startManaged() {
  const folder = mkdtempSync(join(tmpdir(), "outrider-admin-"));
  const upstream = await startUpstream();
  const hub = await script(join(HERE, "../server/fake_hub.py"), "demo/smol", MODEL_FILE, String(HUB_BYTES_PER_S));
  const config = join(folder, "outrider.toml");
  writeFileSync(config, CONFIG(upstream.url));
  const env = { OUTRIDER_DATA_DIR: join(folder, "data"), OUTRIDER_HOME: join(folder, "home"), HF_ENDPOINT: hub.line };
  const manager = outrider(["keys", "create", "--management", "boss"], env);
  const session = await start({ model: "none", options: ["--auth", "on", "--config", config], env });
  const close = async () => {
    await session.close();
    hub.stop();
    upstream.close();
    rmSync(folder, { recursive: true, force: true });
  };

  /** Open a section as who has a management key. What is refused on purpose is an error to the console. */
  function asManager(section, work, options = {}) {
    return inPage(session, { path: `/admin${section}`, allowed: [/status of [45]/], ...options }, async (page, front) => {
      await page.getByRole("button", { name: "Management key", exact: true }).click();
      await page.getByLabel("Management key of this server").fill(manager);
      await page.getByRole("button", { name: "Use it" }).click();
      await work(page, front);
    });
  }

  /** Ask over the API, as a program does. */
  async function send(key, { path = "/api/v1/chat/completions", body = {}, headers = {} } = {}) {
    const chat = path.endsWith("/chat/completions") ? { model: "distant", messages: [{ role: "user", content: "Hi" }] } : {};
    const given = { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers };
    const reply = await fetch(session.url + path, { method: "POST", headers: given, body: JSON.stringify({ ...chat, ...body }) });
    return { status: reply.status, answer: await reply.json() };
  }

  /** Make a key over the API, for tests that are about something else. */
  const made = async (name) => (await send(manager, { path: "/api/v1/keys", body: { name } })).answer.key;

  return { session, upstream, manager, close, asManager, send, made };
}

export const dialog = (page) => page.getByRole("dialog");
export const row = (page, text) => page.getByRole("row").filter({ hasText: text });
