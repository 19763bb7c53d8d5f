// What an answer took: who answered, tokens, speed and cost.

import type { Facts as AnswerFacts } from "../chat/types";
import { count, dollars, seconds } from "./format";

const MIN_RATE_S = 0.05;

export function Facts({ facts }: { facts: AnswerFacts }) {
  const { usage, firstTokenS, totalS, provider, model } = facts;
  const decodeS = totalS - (firstTokenS ?? totalS);
  const attempts = facts.attempts.split(",").length;
  // Over less than this a rate says more about the network than about the model.
  const speed = usage && usage.completion_tokens > 1 && decodeS > MIN_RATE_S ? (usage.completion_tokens - 1) / decodeS : null;
  const cached = usage?.prompt_tokens_details?.cached_tokens ?? 0;
  return (
    <dl class="facts">
      <Fact name="Model" value={provider ? `${model} · ${provider}` : model} title={facts.attempts && `asked: ${facts.attempts}`} />
      {attempts > 1 && <Fact name="Attempts" value={`${attempts} attempts`} title={`asked: ${facts.attempts}`} />}
      {usage && (
        <>
          <Fact name="Prompt" value={`${count(usage.prompt_tokens)} in`} title={cached ? `${count(cached)} of them from the cache` : undefined} />
          <Fact name="Answer" value={`${count(usage.completion_tokens)} out`} />
        </>
      )}
      {speed !== null && <Fact name="Speed" value={`${speed.toFixed(speed < 10 ? 1 : 0)} tok/s`} />}
      {firstTokenS !== null && <Fact name="Time to first token" value={seconds(firstTokenS)} suffix=" to first token" />}
      <Fact name="Total time" value={seconds(totalS)} suffix=" in all" />
      {usage?.cost !== undefined && <Fact name="Cost" value={dollars(usage.cost)} />}
    </dl>
  );
}

function Fact({ name, value, title, suffix = "" }: { name: string; value: string; title?: string; suffix?: string }) {
  return (
    <div title={title || name}>
      <dt class="hidden">{name}</dt>
      <dd>{value}{suffix && <span class="faint">{suffix}</span>}</dd>
    </div>
  );
}
