// How much of the model's context the conversation takes: counted by the server for what it has
// answered, estimated for what came after.

import { computed } from "@preact/signals";
import { tilesOf } from "../api/image-tiles";
import { modelsById } from "../api/models";
import { imageCost } from "../chat/images";
import { thread } from "../chat/store";
import { branch } from "../chat/tree";
import type { Image, Message } from "../chat/types";
import { count, estimatedTokens } from "./format";

// Of the messages, so that typing doesn't walk through them.
const used = computed(() => usedTokens(branch(thread.value), thread.value.system));

export function ContextMeter({ draft, pictures }: { draft: string; pictures: Image[] }) {
  const limit = modelsById.value.get(thread.value.model)?.context_length;
  if (!limit) return <span class="meter" />;
  const { tokens, isExact } = used.value;
  const total = tokens + estimatedTokens(draft) + tokensOf(pictures);
  const share = Math.min(1, total / limit);
  const level = share > 0.95 ? "full" : share > 0.8 ? "high" : "low";
  const words = `${isExact && !draft ? "" : "about "}${count(total)} of ${count(limit)} tokens`;
  return (
    <span class="meter" data-level={level} title={`Context: ${words}`}>
      <meter min={0} max={limit} value={total} aria-label={`Context used: ${words}`} />
      <span class="faint">{words}</span>
    </span>
  );
}

function tokensOf(pictures: Image[]): number {
  const cut = tilesOf(thread.value.model);
  return cut ? pictures.reduce((sum, { width, height }) => sum + imageCost(width, height, cut).tokens, 0) : 0;
}

/** Exact up to the last answer whose usage is known. */
export function usedTokens(messages: Message[], system: string): { tokens: number; isExact: boolean } {
  const at = messages.findLastIndex(({ facts }) => facts?.usage);
  const usage = messages[at]?.facts?.usage;
  const known = usage ? usage.prompt_tokens + usage.completion_tokens : estimatedTokens(system);
  const later = messages.slice(at + 1);
  return { tokens: later.reduce((sum, { text }) => sum + estimatedTokens(text), known), isExact: later.length === 0 && at >= 0 };
}
