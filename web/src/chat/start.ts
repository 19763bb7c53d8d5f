// Brings the playground to life, once for a tab, and follows the addresses that lead to it: a
// conversation, a link with settings, or a model to try.

import { effect } from "@preact/signals";
import { apiKey } from "../api/key";
import { loadModels, models } from "../api/models";
import { loadParameters } from "../api/parameters";
import { tell } from "../ui/state";
import { refresh } from "./places";
import { settleHistory } from "./send";
import { settingsFromHash } from "./share";
import { chooseModels, conversation, isEmpty, loadHistory, show, thread, useKey } from "./store";
import { newConversation, settingsOf } from "./types";

const started = start();

async function start(): Promise<void> {
  void loadModels();
  void loadParameters().catch(() => undefined); // the problem of the models says the same
  await loadHistory();
  settleHistory();
  apiKey.subscribe(skippingFirst(() => void useKey()));
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") void refresh();
  });
  effect(() => {
    if (models.value.length) chooseModels();
  });
}

function skippingFirst(work: () => void): () => void {
  let isFirst = true;
  return () => {
    if (!isFirst) work();
    isFirst = false;
  };
}

/** Do what the address says, whenever somebody comes to the playground. */
export async function followAddress(): Promise<void> {
  await started;
  const { hash, search, pathname } = location;
  const model = new URLSearchParams(search).get("model");
  if (hash.startsWith("#settings=")) {
    const settings = settingsFromHash(hash);
    window.history.replaceState(null, "", "/");
    if (settings) show(newConversation(settings), false);
    else tell("The link is damaged; nothing was changed");
  } else if (model) {
    window.history.replaceState(null, "", "/");
    show(newConversation({ ...settingsOf(thread.value), model }), false);
  } else if (pathname === "/" && !isEmpty(conversation.value)) {
    // Back from another page, the conversation goes on.
    window.history.replaceState(null, "", `/chat/${conversation.value.id}`);
  }
}
