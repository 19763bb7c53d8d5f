// An answer's text. Each block is set into the page once; only the last one changes while the
// answer grows.

import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { GrowingMarkdown, htmlOf } from "../markdown/parse";
import { setSanitised } from "../markdown/sanitise";
import { CodeBlock } from "./CodeBlock";
import { memo } from "./memo";

export function Markdown({ text, isGrowing }: { text: string; isGrowing: boolean }) {
  const growing = useMemo(() => new GrowingMarkdown(), []);
  const blocks = growing.update(text, isGrowing);
  return (
    <div class="markdown">
      {blocks.map((block, index) => {
        const isLast = isGrowing && index === blocks.length - 1;
        if (block.kind === "code") {
          return <CodeBlock key={index} text={block.text} language={block.language} isGrowing={isLast} />;
        }
        return <HtmlBlock key={index} source={block.source} isGrowing={isLast} />;
      })}
    </div>
  );
}

const HtmlBlock = memo(function HtmlBlock({ source, isGrowing }: { source: string; isGrowing: boolean }) {
  const element = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const root = element.current!;
    setSanitised(root, htmlOf(source));
    if (!isGrowing && root.querySelector("span.math")) {
      void import("../markdown/math").then(({ drawMath }) => drawMath(root));
    }
  }, [source, isGrowing]);
  return <div ref={element} />;
});
