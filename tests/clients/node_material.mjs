// What the Node clients send, and where to: the same as material.py and conftest.py.

import { readFileSync } from "node:fs";

export const words = JSON.parse(process.env.OUTRIDER_WORDS);
export const eyes = JSON.parse(process.env.OUTRIDER_EYES);
export const flat = JSON.parse(process.env.OUTRIDER_FLAT);
export const material = JSON.parse(readFileSync(process.env.OUTRIDER_MATERIAL, "utf-8"));

export const user = (text) => [{ role: "user", content: text }];

export const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);

/** Make sure that vectors say what the texts say: the first two are close. */
export function checkVectors(assert, [first, second, third]) {
  assert.equal(first.length, material.NUM_DIMENSIONS);
  assert.ok(dot(first, second) > dot(first, third) + 0.1);
}

/** Make sure that an answer keeps to the schema. */
export function checkColour(assert, value) {
  assert.deepEqual(Object.keys(value).sort(), ["colour", "is_warm"]);
  assert.ok(material.COLOURS.includes(value.colour));
  assert.equal(typeof value.is_warm, "boolean");
}

/** A fetch that sends what is meant for Cloudflare to a server. */
export const cloudflareFetch = (server) => (url, init) =>
  fetch(String(url).replace("https://api.cloudflare.com", server.url), init);
