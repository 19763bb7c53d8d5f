// Colours for code, loaded when the first finished block of a known language is shown.

import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { setSanitised } from "./sanitise";

const LANGUAGES = { bash, cpp, css, go, java, json, python, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language);
hljs.registerAliases(["sh", "shell", "curl"], { languageName: "bash" });
hljs.registerAliases(["js", "javascript", "jsx", "tsx"], { languageName: "typescript" });

const MAX_LENGTH = 50_000; // of a block; a longer one stays plain rather than stopping the page

export function highlight(element: Element, text: string, language: string): void {
  if (text.length > MAX_LENGTH || !hljs.getLanguage(language)) return;
  setSanitised(element, hljs.highlight(text, { language, ignoreIllegals: true }).value);
}
