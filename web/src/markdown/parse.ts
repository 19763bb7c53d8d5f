// Markdown into blocks. While an answer grows only its last block is read again; HTML in answers is
// shown as text, pictures become links, and what a stream has cut open is closed for the eye.

import { Marked, type Token, type Tokens } from "marked";
import { escaped } from "./escape";
import { mathExtensions } from "./math-syntax";

export type Block = { kind: "html"; source: string } | { kind: "code"; language: string; text: string };

const marked = new Marked({ gfm: true, breaks: false, async: false });
marked.use({
  extensions: mathExtensions,
  renderer: {
    html: ({ text }: Tokens.HTML | Tokens.Tag) => escaped(text),
    image: ({ href, text }: Tokens.Image) => `<a href="${escaped(href)}">🖼 ${escaped(text || "image")}</a>`,
    checkbox: ({ checked }: Tokens.Checkbox) => (checked ? "☑ " : "☐ "),
  },
});

export class GrowingMarkdown {
  private settled = "";
  private blocks: Block[] = [];

  /** Give the blocks of a text that begins as the last one did, as long as it only grows. */
  update(text: string, isGrowing: boolean): Block[] {
    if (!text.startsWith(this.settled)) {
      this.settled = "";
      this.blocks = [];
    }
    const tokens = marked.lexer(text.slice(this.settled.length));
    const last = tokens.findLastIndex(({ type }) => type !== "space");
    // Whatever stands before the last block can't change any more.
    for (const token of tokens.slice(0, Math.max(0, last))) {
      this.settled += token.raw;
      const block = blockOf(token);
      if (block) this.blocks.push(block);
    }
    const tail = tokens[last];
    if (!tail) return [...this.blocks];
    return [...this.blocks, ...rest(isGrowing ? mended(tail) : tail)];
  }
}

function rest(token: Token): Block[] {
  const block = blockOf(token);
  return block ? [block] : [];
}

/** What the browser must still sanitise. */
export function htmlOf(source: string): string {
  return marked.parser(marked.lexer(source));
}

function blockOf(token: Token): Block | null {
  if (token.type === "space" || token.type === "def") return null;
  if (token.type === "code") {
    const { lang, text } = token as Tokens.Code;
    return { kind: "code", language: (lang ?? "").split(/\s/)[0]!.toLowerCase(), text };
  }
  return { kind: "html", source: token.raw };
}

/** Close emphasis, code and links that are still open at the end of a paragraph. */
function mended(token: Token): Token {
  if (token.type === "code") return token;
  return { ...token, raw: mend(token.raw) };
}

export function mend(text: string): string {
  const ticks = text.match(/(?<!`)`(?!`)/g)?.length ?? 0;
  if (ticks % 2) return `${text}\``;
  const outside = text.replace(/`[^`]*`/g, "");
  let whole = text.replace(/!?\[([^\]]*)\]\([^)\s]*$/, "$1"); // a link whose address isn't there yet
  for (const mark of ["**", "~~"]) {
    if ((outside.split(mark).length - 1) % 2) whole = whole.trimEnd() + mark;
  }
  return whole;
}
