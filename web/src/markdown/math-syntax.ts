// Where formulas begin and end in Markdown: $…$, $$…$$, \(…\) and \[…\]. A sum of money isn't one:
// a dollar that opens has no space behind it, one that closes none before it and no digit after.

import type { TokenizerAndRendererExtension, Tokens } from "marked";
import { escaped } from "./escape";

interface MathToken extends Tokens.Generic {
  tex: string;
  isBlock: boolean;
}

const INLINE = /^(?:\$(?![\s$])((?:\\.|[^\\$\n])+?)(?<!\s)\$(?!\d)|\\\(([\s\S]+?)\\\))/;
const BLOCK = /^(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])(?:\n|$)/;

export const mathExtensions: TokenizerAndRendererExtension[] = [
  extension("blockMath", "block", BLOCK, /\$\$|\\\[/),
  extension("inlineMath", "inline", INLINE, /\$|\\\(/),
];

function extension(name: string, level: "block" | "inline", rule: RegExp, start: RegExp): TokenizerAndRendererExtension {
  return {
    name,
    level,
    start: (source) => {
      const at = source.search(start);
      return at < 0 ? undefined : at;
    },
    tokenizer(source) {
      const found = rule.exec(source);
      if (!found) return undefined;
      const tex = (found[1] ?? found[2] ?? "").trim();
      return { type: name, raw: found[0], tex, isBlock: level === "block" } as MathToken;
    },
    renderer(token) {
      const { tex, isBlock } = token as MathToken;
      const kind = isBlock ? "math math-block" : "math";
      return `<span class="${kind}" data-tex="${escaped(tex)}">${escaped(tex)}</span>`;
    },
  };
}
