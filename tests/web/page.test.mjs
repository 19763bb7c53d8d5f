// The page itself: what it loads, who can use it, and that nothing in an answer becomes active.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, findings, inPage, openSection, overflow, said, start } from "./browser.mjs";
import { says } from "./front.mjs";

const MAX_FIRST_LOAD_BYTES = 150_000;

let session;
before(async () => { session = await start(); });
after(() => session.close());

const MARKDOWN = [
  "# A heading\n\nSome **bold**, `code` and [a link](https://example.com).\n\n",
  "| Left | Right |\n|---|---|\n| 1 | 2 |\n\n",
  "```python\ndef add(a, b):\n    return a + b\n```\n\n",
  "Inline $a^2 + b^2$ costs $5 or $6.\n\n$$\\frac{1}{2}$$\n\n- [x] done\n- [ ] open\n",
];

const HOSTILE = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg onload=alert(1)><a xlink:href='javascript:alert(1)'>x</a></svg>",
  "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
  "[click](javascript:alert(1))",
  "[click](JaVaScRiPt&colon;alert(1))",
  "[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
  "![x](https://elsewhere.example/pixel.png)",
  "![x\" onerror=\"alert(1)](x)",
  "<a href='javascript:alert(1)' onclick='alert(1)'>x</a>",
  "<form action='https://elsewhere.example'><button formaction='javascript:alert(1)'>x</button></form>",
  "<style>*{background:url(https://elsewhere.example/)}</style>",
  "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
  "<details open ontoggle=alert(1)><object data='javascript:alert(1)'></object></details>",
  "$\\href{javascript:alert(1)}{x}$ $$\\includegraphics{https://elsewhere.example/x.png}$$",
  "```html\n<script>alert(1)</script>\n```",
  "```\"><img src=x onerror=alert(1)>\ncode\n```",
  "<base href='https://elsewhere.example/'><meta http-equiv=refresh content='0;url=https://elsewhere.example'>",
  "| <img src=x onerror=alert(1)> | b |\n|---|---|\n| <b onmouseover=alert(1)>x</b> | y |",
  "<div style='position:fixed;inset:0' class='notice' id='app'>over the page</div>",
].join("\n\n");

/** Nothing active in the page's tree: no handlers, scripts, frames, forms or foreign addresses. */
async function activeContent(page) {
  return page.locator(".thread").evaluate((root) => {
    const found = [];
    for (const element of root.querySelectorAll("*")) {
      const inAnswer = element.closest(".markdown, .result");
      if (inAnswer && /^(SCRIPT|IFRAME|OBJECT|EMBED|FORM|INPUT|STYLE|IMG|BASE|META|LINK|SVG)$/i.test(element.tagName) && !element.closest("button")) {
        found.push(element.outerHTML);
      }
      for (const { name, value } of element.attributes) {
        if (/^on/i.test(name) || /javascript:|data:text/i.test(value)) found.push(`${name}=${value}`);
        if (inAnswer && /^(style|id|src|action|formaction)$/.test(name)) found.push(`${name}=${value}`);
      }
      if (element.tagName === "A" && element.href && !/noopener/.test(element.rel)) found.push(element.outerHTML);
    }
    return found;
  });
}

test("the first load is small, cached for ever and protected", async () => {
  await inPage(session, {}, async (page, front) => {
    const html = await fetch(front.url, { headers: { accept: "text/html" } });
    assert.match(html.headers.get("content-security-policy"), /default-src 'self'/);
    assert.match(await html.text(), /modulepreload[^>]*PlaygroundPage/);
    const other = await (await fetch(`${front.url}/docs`, { headers: { accept: "text/html" } })).text();
    assert.ok(/modulepreload[^>]*DocsPage/.test(other) && !other.includes("PlaygroundPage"));
    const sizes = await page.evaluate(() => performance.getEntriesByType("resource")
      .filter(({ name }) => name.includes("/assets/")).map(({ name, encodedBodySize }) => [name, encodedBodySize]));
    const total = sizes.reduce((sum, [, size]) => sum + size, 0);
    assert.ok(sizes.length > 1 && total < MAX_FIRST_LOAD_BYTES, `${total} bytes`);
    assert.ok(!sizes.some(([name]) => /highlight|math/.test(name)), "what is rarely needed comes later");
    const asset = await fetch(sizes[0][0]);
    assert.match(asset.headers.get("cache-control"), /immutable/);
  });
});

test("markdown is drawn with tables, colours and formulas, and code can be copied", async () => {
  await inPage(session, {}, async (page, front) => {
    front.script.push(says(MARKDOWN.join("").match(/[\s\S]{1,7}/g)));
    await ask(page, "Show me");
    await page.getByRole("heading", { name: "A heading" }).waitFor();
    await page.locator("td", { hasText: "2" }).waitFor();
    await page.locator(".hljs-keyword", { hasText: "def" }).waitFor();
    await page.locator("math msup").first().waitFor();
    await page.locator("math mfrac").waitFor();
    await said(page, "costs $5 or $6");
    await said(page, "☑");
    await page.getByRole("figure").getByRole("button", { name: "Copy" }).click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "def add(a, b):\n    return a + b");
  });
});

test("nothing hostile in an answer, a tool's result, a name or a title becomes active", async () => {
  await inPage(session, {}, async (page, front) => {
    front.models = async (target) => {
      const list = await (await fetch(`${target}/api/v1/models`)).json();
      const evil = { ...list.data[0], id: "<img src=x onerror=alert(1)>" };
      return { ...list, data: [...list.data, evil] };
    };
    await page.reload();
    await page.getByLabel("Model of the chat").selectOption("<img src=x onerror=alert(1)>");
    const call = { index: 0, id: "c", function: { name: "<svg onload=alert(1)>", arguments: '{"a":"<script>alert(1)</script>"}' } };
    front.script.push(says(HOSTILE.match(/[\s\S]{1,40}/g)), says([], { delta: { tool_calls: [call] } }), says(HOSTILE));
    await ask(page, "<img src=x onerror=alert(1)> title");
    await ask(page, "call");
    await page.getByLabel("Result", { exact: true }).fill(HOSTILE);
    await page.getByRole("button", { name: "Give result" }).click();
    await page.locator(".facts").nth(2).waitFor();
    await page.waitForTimeout(300); // handlers and lazy parts have had their time
    assert.deepEqual(await activeContent(page), []);
    await said(page, "<script>alert(1)</script>"); // it stands there as text
  });
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [1280, 360]) {
    test(`axe finds nothing serious, ${colorScheme} at ${width} pixels`, async () => {
      await inPage(session, { colorScheme, viewport: { width, height: 760 } }, async (page, front) => {
        front.script.push(says(MARKDOWN));
        await ask(page, "Show me");
        await page.locator(".hljs-keyword").first().waitFor();
        assert.deepEqual(await findings(page), []);
        assert.equal(await overflow(page), 0, "pixels too wide");
        if (width === 360) await page.getByRole("button", { name: "Settings", exact: true }).click();
        for (const title of ["Tools", "Answer by schema", "Presets and links"]) await openSection(page, title);
        await page.waitForTimeout(300);
        assert.deepEqual(await findings(page), []);
        await page.keyboard.press("Control+k");
        await page.waitForTimeout(200);
        assert.deepEqual(await findings(page), []);
      });
    });
  }
}

test("every asset the page asks for is its own, even without a network", async () => {
  await inPage(session, {}, async (page, front, context) => {
    await context.route((url) => url.origin !== front.url, (route) => route.abort());
    front.script.push(says(MARKDOWN));
    await ask(page, "Show me");
    await page.locator("math mfrac").waitFor();
  });
});
