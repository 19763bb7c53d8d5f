// How much of the model's context the conversation takes: counted by the server for what it has
// answered, estimated for what came after.

import { modelsById } from "../api/models";
import { imageCost } from "../chat/images";
import { thread } from "../chat/store";
import { branch } from "../chat/tree";
import type { Image, Message } from "../chat/types";
import { count, estimatedTokens } from "./format";

export function ContextMeter({ draft, pictures }: { draft: string; pictures: Image[] }) {
  const limit = modelsById.value.get(thread.value.model)?.context_length;
  if (!limit) return <span class="meter" />;
  const { tokens, isExact } = usedTokens(branch(thread.value), thread.value.system);
  const used = tokens + estimatedTokens(draft) + pictures.reduce((sum, { width, height }) => sum + imageCost(width, height).tokens, 0);
  const share = Math.min(1, used / limit);
  const level = share > 0.95 ? "full" : share > 0.8 ? "high" : "low";
  const words = `${isExact && !draft ? "" : "about "}${count(used)} of ${count(limit)} tokens`;
  return (
    <span class="meter" data-level={level} title={`Context: ${words}`}>
      <meter min={0} max={limit} value={used} aria-label={`Context used: ${words}`} />
      <span class="faint">{words}</span>
    </span>
  );
}

/** Exact up to the last answer whose usage is known. */
export function usedTokens(messages: Message[], system: string): { tokens: number; isExact: boolean } {
  const at = messages.findLastIndex(({ facts }) => facts?.usage);
  const usage = messages[at]?.facts?.usage;
  const known = usage ? usage.prompt_tokens + usage.completion_tokens : estimatedTokens(system);
  const later = messages.slice(at + 1);
  return { tokens: later.reduce((sum, { text }) => sum + estimatedTokens(text), known), isExact: later.length === 0 && at >= 0 };
}
