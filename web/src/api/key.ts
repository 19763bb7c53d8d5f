// The key of a server that wants one. It lives in this tab's session only: never in history,
// exports, links or code samples.

import { signal } from "@preact/signals";

const NAME = "outrider.key";

export const apiKey = signal(sessionStorage.getItem(NAME) ?? "");

export function setApiKey(key: string): void {
  apiKey.value = key.trim();
  if (apiKey.value) sessionStorage.setItem(NAME, apiKey.value);
  else sessionStorage.removeItem(NAME);
}
