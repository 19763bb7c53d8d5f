// The one door for markup into the page. Lists what may pass, by name; everything else is dropped.
// The result is a TrustedHTML where the browser has that, and the policy refuses any other string.

import DOMPurify from "dompurify";

const TAGS = [
  "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol",
  "p", "pre", "s", "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
];
const CLASSES = /^(math|math-block|hljs-[\w-]+|language-[\w+#.-]+|function_|class_|inherited__)$/;
const SCHEMES = /^(https?:|mailto:)/i;

let made: ReturnType<typeof DOMPurify> | undefined;

/** Made at the first markup: nobody who opens the page has to wait for it. */
function purifier(): ReturnType<typeof DOMPurify> {
  if (made) return made;
  made = DOMPurify(window);
  made.addHook("afterSanitizeAttributes", keepListed);
  return made;
}

function keepListed(node: Element): void {
  if (node.hasAttribute("class")) {
    const kept = [...node.classList].filter((name) => CLASSES.test(name));
    if (kept.length) node.setAttribute("class", kept.join(" "));
    else node.removeAttribute("class");
  }
  if (node.nodeName === "A" && node.hasAttribute("href")) {
    // Relative links would lead into this page, under its origin; answers have no business there.
    if (!SCHEMES.test(node.getAttribute("href") ?? "")) node.removeAttribute("href");
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
}

export function setSanitised(element: Element, markup: string): void {
  element.innerHTML = purifier().sanitize(markup, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ["align", "class", "data-tex", "href", "start", "title"],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_TRUSTED_TYPE: true,
  }) as unknown as string;
}

/** Formulas: MathML without links, actions and styles. */
export function setSanitisedMath(element: Element, markup: string): void {
  element.innerHTML = purifier().sanitize(markup, {
    USE_PROFILES: { mathMl: true },
    FORBID_ATTR: ["style", "href", "class", "id"],
    FORBID_TAGS: ["maction", "annotation", "annotation-xml", "semantics"],
    ALLOW_DATA_ATTR: false,
    RETURN_TRUSTED_TYPE: true,
  }) as unknown as string;
}
