// Formulas as MathML, which the browser draws itself; loaded with the first formula.

import temml from "temml";
import { setSanitisedMath } from "./sanitise";

const MAX_LENGTH = 5_000;
const STYLE = /(<[^<>]*?)\sstyle="[^"]*"/g;

export function drawMath(root: Element): void {
  for (const element of root.querySelectorAll("span.math[data-tex]")) {
    const tex = element.getAttribute("data-tex") ?? "";
    element.removeAttribute("data-tex");
    if (tex.length > MAX_LENGTH) continue;
    const displayMode = element.classList.contains("math-block");
    // What isn't a formula stays as it was written; macros may not expand without end.
    try {
      const options = { displayMode, throwOnError: true, trust: false, maxExpand: 200, maxSize: [20, 20] };
      // The policy forbids style attributes, and would complain of them even while they are parsed.
      const markup = temml.renderToString(tex, options as object).replace(STYLE, "$1");
      setSanitisedMath(element, markup);
      element.setAttribute("data-drawn", "");
    } catch {
      element.setAttribute("title", "This isn't a formula that can be drawn.");
    }
  }
}
