// What all pages share: the navigation, its addresses and its keys.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, findings, inPage, overflow, said, start } from "./browser.mjs";
import { says } from "./front.mjs";

let session;
before(async () => { session = await start(); });
after(() => session.close());

const pages = (page) => page.getByRole("navigation", { name: "Pages" });

test("pages are gone to and come back from without a load, and an answer goes on meanwhile", async () => {
  await inPage(session, {}, async (page, front) => {
    await page.evaluate(() => (window.isSame = true));
    front.script.push(says(Array.from({ length: 60 }, () => "word ")));
    await page.getByLabel("Your message").fill("go on");
    await page.keyboard.press("Enter");
    await page.locator(".markdown", { hasText: "word" }).first().waitFor();
    const address = page.url();
    await pages(page).getByRole("link", { name: "Models" }).click();
    await page.getByRole("heading", { name: "Models", level: 1 }).waitFor();
    assert.equal(await page.title(), "Models · Outrider");
    assert.equal(await pages(page).locator("[aria-current=page]").textContent(), "Models");
    await page.waitForTimeout(900); // the answer ends while nobody looks
    await pages(page).getByRole("link", { name: "Playground" }).click();
    await page.getByRole("button", { name: "Answer again" }).waitFor();
    assert.equal(page.url(), address);
    await page.goBack();
    await page.getByRole("heading", { name: "Models", level: 1 }).waitFor();
    await page.goBack();
    await said(page, "word word");
    assert.ok(await page.evaluate(() => window.isSame));
  });
});

test("a deep link opens its page, and an unknown one says so", async () => {
  await inPage(session, { path: "/models" }, async (page) => {
    await page.locator(".model").first().waitFor();
    await page.evaluate(() => window.history.pushState(null, "", "/nothing/here"));
    await page.goBack();
    await page.goForward();
    await page.getByRole("heading", { name: "Nothing is here" }).waitFor();
    await page.getByRole("link", { name: "Go to the playground" }).click();
    await page.getByLabel("Your message").waitFor();
  });
});

test("the keyboard skips the navigation and moves through it", async () => {
  await inPage(session, { path: "/models" }, async (page) => {
    await page.keyboard.press("Tab");
    assert.equal(await page.locator(":focus").textContent(), "Skip to the content");
    await page.keyboard.press("Enter");
    assert.equal(await page.locator(":focus").getAttribute("id"), "content");
    await page.keyboard.press("Shift+Tab"); // key
    await page.keyboard.press("Shift+Tab"); // theme
    await page.keyboard.press("Shift+Tab");
    while ((await page.locator(":focus").textContent()) !== "Playground") await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    await page.getByLabel("Your message").waitFor();
  });
});

test("a link tries a model in a new chat", async () => {
  await inPage(session, {}, async (page, front) => {
    front.models = async (target) => {
      const list = await (await fetch(`${target}/api/v1/models`)).json();
      return { ...list, data: [...list.data, { ...list.data[0], id: "other/model:free" }] };
    };
    front.script.push(says("Yes."));
    await ask(page, "Is it kept?");
    await page.goto(`${front.url}/?model=other%2Fmodel%3Afree`);
    await page.getByLabel("Model of the chat").waitFor();
    await page.waitForFunction(() => document.querySelector(".top select")?.value === "other/model:free");
    assert.equal(new URL(page.url()).search, "");
    assert.equal(await page.locator(".markdown").count(), 0);
  });
});

test("a page that can't be loaded any more says so", async () => {
  await inPage(session, { allowed: [/ModelsPage/] }, async (page, front, context) => {
    await context.route(/ModelsPage.*\.js/, (route) => route.fulfill({ status: 404 }));
    await pages(page).getByRole("link", { name: "Models" }).click();
    await page.getByText("This page couldn't be loaded").waitFor();
  });
});

for (const colorScheme of ["light", "dark"]) {
  test(`the navigation fits at 360 pixels and axe finds nothing serious, ${colorScheme}`, async () => {
    await inPage(session, { path: "/models", colorScheme, viewport: { width: 360, height: 740 } }, async (page) => {
      await page.locator(".model").first().waitFor();
      assert.deepEqual(await findings(page), []);
      assert.equal(await overflow(page), 0, "pixels too wide");
      await pages(page).getByRole("link").last().focus();
      await page.keyboard.press("Enter");
      await page.waitForFunction(() => {
        const links = document.querySelector("[aria-label=Pages]");
        const current = links.querySelector("[aria-current]");
        return current === links.lastElementChild && current.getBoundingClientRect().right <= links.getBoundingClientRect().right;
      });
      await pages(page).getByRole("link", { name: "Playground" }).click();
      await page.getByLabel("Your message").waitFor();
      assert.equal(await overflow(page), 0, "pixels too wide");
    });
  });
}
