import { expect, test } from "vitest";
import { GrowingMarkdown, htmlOf, mend } from "./parse";
import { setSanitised } from "./sanitise";

const TEXT = "# T\n\nA *b* `c`\nd\n\n- one\n- two\n\n  more\n\n```py\nx = 1\n\ny = 2\n```\n\n| a |\n|---|\n| 1 |\n\n> q\n\n$$x$$\nend";

function drawn(source: string): HTMLElement {
  const element = document.createElement("div");
  setSanitised(element, htmlOf(source));
  return element;
}

test("a text read piece by piece ends as the same blocks as a text read at once", () => {
  const whole = new GrowingMarkdown().update(TEXT, false);
  const growing = new GrowingMarkdown();
  for (let end = 1; end < TEXT.length; end++) growing.update(TEXT.slice(0, end), true);
  expect(growing.update(TEXT, false)).toEqual(whole);
});

test("a text that doesn't go on from the last one is read anew", () => {
  const growing = new GrowingMarkdown();
  growing.update("one\n\ntwo\n\nthree", true);
  expect(growing.update("other", false)).toEqual([{ kind: "html", source: "other" }]);
});

test.each([
  ["**bold", "**bold**"],
  ["`code", "`code`"],
  ["a `*` b", "a `*` b"],
  ["see [the page](https://exam", "see the page"],
])("what a stream cuts open is closed: %s", (text, expected) => {
  expect(mend(text)).toBe(expected);
});

test("HTML in an answer is text", () => {
  const element = drawn("<b onclick=x>hi</b> <script>alert(1)</script>");
  expect(element.querySelector("b, script")).toBeNull();
  expect(element.textContent).toContain("<script>alert(1)</script>");
});

test.each(["javascript:alert(1)", "data:text/html,x", "vbscript:x", "/v1/models", "//elsewhere.example"])(
  "a link to %s leads nowhere", (href) => {
    expect(drawn(`[x](${href})`).querySelector("[href]")).toBeNull();
  },
);

test("links open elsewhere and pictures are links", () => {
  const [link, picture] = drawn("[x](https://a.example) ![alt](https://b.example/p.png)").querySelectorAll("a");
  expect(link!.rel).toBe("noopener noreferrer nofollow");
  expect(picture!.textContent).toContain("alt");
});

test("formulas are found and sums of money are not", () => {
  expect(drawn("$a+b$ and \\(c\\)").querySelectorAll(".math")).toHaveLength(2);
  expect(drawn("from $5 to $10, or $ 3 $").querySelector(".math")).toBeNull();
});
