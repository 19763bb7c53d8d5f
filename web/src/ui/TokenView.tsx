// The tokens of an answer, shaded by how unsure the model was; one of them shows its alternatives.

import { useState } from "preact/hooks";
import type { TokenLogprob } from "../api/chat";

/** Entropy in bits over the alternatives that are known; what is left counts as one more. */
export function entropyBits(token: TokenLogprob): number {
  const shares = token.top_logprobs.map(({ logprob }) => Math.exp(logprob));
  if (shares.length === 0) return -token.logprob / Math.LN2;
  const rest = Math.max(0, 1 - shares.reduce((sum, share) => sum + share, 0));
  return [...shares, rest].reduce((sum, share) => (share > 1e-9 ? sum - share * Math.log2(share) : sum), 0);
}

export function TokenView({ tokens }: { tokens: TokenLogprob[] }) {
  const [at, setAt] = useState(0);
  const move = (event: KeyboardEvent) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    event.preventDefault();
    const next = Math.min(tokens.length - 1, Math.max(0, at + step));
    setAt(next);
    const row = event.currentTarget as HTMLElement;
    (row.children[next] as HTMLElement | undefined)?.focus();
  };
  const chosen = tokens[at];
  return (
    <div class="token-view">
      <div class="tokens" role="group" aria-label="Tokens of the answer" onKeyDown={move}>
        {tokens.map((token, index) => (
          <button
            key={index} type="button" class={`token shade-${shade(token)}`} tabIndex={index === at ? 0 : -1}
            aria-current={index === at} aria-label={`${token.token.trim() || "space"}, ${percent(token.logprob)}`}
            onMouseEnter={() => setAt(index)} onFocus={() => setAt(index)}
          >
            {visible(token.token)}
          </button>
        ))}
      </div>
      {chosen && <Alternatives token={chosen} />}
    </div>
  );
}

function Alternatives({ token }: { token: TokenLogprob }) {
  const rows = token.top_logprobs.length ? token.top_logprobs : [token];
  return (
    <table class="alternatives">
      <caption>{entropyBits(token).toFixed(2)} bits of doubt at <code>{visible(token.token)}</code></caption>
      <thead><tr><th scope="col">Token</th><th scope="col">Probability</th></tr></thead>
      <tbody>
        {rows.map((row) => (
          <tr key={row.token} class={row.token === token.token ? "chosen" : ""}>
            <td><code>{visible(row.token)}</code></td>
            <td><meter min={0} max={1} value={Math.exp(row.logprob)} aria-hidden="true" /> {percent(row.logprob)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function shade(token: TokenLogprob): number {
  return Math.min(5, Math.floor(entropyBits(token) * 1.5));
}

function percent(logprob: number): string {
  const share = Math.exp(logprob) * 100;
  return `${share >= 10 ? share.toFixed(0) : share.toPrecision(2)} %`;
}

function visible(text: string): string {
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "∅";
}
