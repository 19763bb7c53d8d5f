// A block of code with its language, a button that copies it, and colours once it is complete.

import "../styles/code.css";
import { useLayoutEffect, useRef } from "preact/hooks";
import { Icon } from "./icons";
import { memo } from "./memo";
import { copy } from "./state";

interface Properties {
  text: string;
  language: string;
  isGrowing?: boolean;
}

export const CodeBlock = memo(function CodeBlock({ text, language, isGrowing = false }: Properties) {
  const element = useRef<HTMLElement>(null);
  useLayoutEffect(() => {
    const code = element.current!;
    code.textContent = text; // also takes away the colours of an earlier text
    if (isGrowing || !language) return;
    let isCurrent = true;
    void import("../markdown/highlight").then(({ highlight }) => {
      if (isCurrent) highlight(code, text, language);
    });
    return () => {
      isCurrent = false;
    };
  }, [text, language, isGrowing]);
  return (
    <figure class="code-block">
      <figcaption>
        <span>{language || "text"}</span>
        <button type="button" class="quiet" onClick={() => copy(text, "Code copied")}>
          <Icon name="copy" /> Copy
        </button>
      </figcaption>
      <pre tabIndex={0} aria-label={`Code, ${language || "text"}`}><code ref={element} /></pre>
    </figure>
  );
});
