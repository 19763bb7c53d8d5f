// What the tests of the history share: a session with a manager, keys for pages, and what the server has.

import assert from "node:assert/strict";
import { start } from "./browser.mjs";

export async function startHistory() {
  const session = await start();
  const manager = session.newKey("--management", "history");
  await new Promise((resolve) => setTimeout(resolve, 1500)); // until the server has seen it
  return { ...session, manager };
}

export async function useKey(page, key) {
  await page.getByRole("button", { name: "Enter a key" }).first().click();
  await page.getByLabel("API key of this server").fill(key);
  await page.getByRole("button", { name: "Use it" }).click();
  await page.getByText("New chats are kept on the server, for this key alone.").waitFor();
}

/** Make a key, and use it if there is a page. */
export async function newKey({ url, manager }, page) {
  const headers = { authorization: `Bearer ${manager}` };
  const { key } = await (await fetch(`${url}/api/v1/keys`, { method: "POST", headers, body: '{"name": "history"}' })).json();
  if (page) await useKey(page, key);
  return key;
}

export async function kept({ url }, key, path = "") {
  const reply = await fetch(`${url}/outrider/v1/conversations${path}`, { headers: { authorization: `Bearer ${key}` } });
  return reply.json();
}

export const titles = async (session, key) => (await kept(session, key)).data.map(({ title }) => title).sort();

export async function until(condition) {
  for (let tries = 0; !(await condition()); tries++) {
    assert.ok(tries < 120, "waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export const item = (page, title) => page.locator(".conversation", { hasText: title });
