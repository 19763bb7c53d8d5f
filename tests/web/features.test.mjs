// Parameters, tools, schemas, tokens, pictures, code samples, presets and links.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { answers, answerSurely, ask, inPage, last, openSection, said, setParameter, start } from "./browser.mjs";
import { says } from "./front.mjs";

const REFUSED = /status of 400/; // the browser notes every answer that isn't a 2xx

let session;
before(async () => { session = await start(); });
after(() => session.close());

/** The served models, as if they read pictures and took no top_a. */
async function seeing(target) {
  const list = await (await fetch(`${target}/api/v1/models`)).json();
  for (const model of list.data) {
    model.architecture.input_modalities = ["text", "image"];
    model.supported_parameters = model.supported_parameters.filter((name) => name !== "top_a");
  }
  return list;
}

test("parameters have the served ranges and defaults, and are sent only when set", async () => {
  await inPage(session, {}, async (page, front) => {
    const temperature = page.locator("#parameter-temperature");
    assert.equal(await temperature.getAttribute("max"), "2");
    assert.equal(await temperature.getAttribute("placeholder"), "1");
    await temperature.fill("9");
    await page.getByText("At most 2.").waitFor();
    await temperature.fill("0.3");
    await page.getByLabel("top_p, slider").fill("0.5");
    await setParameter(page, "stop", "END\nSTOP");
    front.script.push(says("ok"));
    await ask(page, "Hello");
    const { temperature: sent, top_p, stop, top_k } = last(front.asked);
    assert.deepEqual([sent, top_p, stop, top_k], [0.3, 0.5, ["END", "STOP"], undefined]);
    await page.getByRole("button", { name: "Back to defaults" }).click();
    assert.equal(await temperature.inputValue(), "");
  });
});

test("two panes compare two providers of one model", async () => {
  await inPage(session, {}, async (page, front) => {
    const endpoints = [{ tag: "local", provider_name: "Outrider" }, { tag: "far/fp8", provider_name: "Far" }];
    await page.route("**/api/v1/models/*/endpoints", (route) => route.fulfill({ json: { data: { endpoints } } }));
    await page.reload();
    await page.getByRole("button", { name: "Compare: add a pane" }).click();
    await page.getByLabel("Provider").selectOption("Far");
    front.script.push(says("left"), says("right"));
    await page.getByLabel("Your message").fill("Both?");
    await page.keyboard.press("Enter");
    await said(page, "left");
    await said(page, "right");
    assert.deepEqual(front.asked.map(({ provider }) => provider), [undefined, { only: ["far"] }]);
    await page.getByRole("button", { name: "View code" }).click();
    await page.getByText("OpenAI has no provider: left out.").waitFor();
  });
});

test("a parameter that the model doesn't take says so", async () => {
  await inPage(session, {}, async (page, front) => {
    front.models = seeing;
    await page.reload();
    await page.getByText("doesn't take top_a").waitFor();
    assert.ok(await page.locator("#parameter-top_a").isDisabled());
  });
});

test("a call is shown as a card, and its pasted result goes back to the model", async () => {
  await inPage(session, {}, async (page, front) => {
    await openSection(page, "Tools");
    await page.getByLabel("Tools, as JSON").fill("[{");
    await page.getByText("Not JSON yet").waitFor();
    await page.getByLabel("Tools, as JSON").fill("");
    await page.getByRole("button", { name: "Put in an example" }).first().click();
    await page.getByLabel("tool_choice").selectOption("get_weather");
    const call = { index: 0, id: "call_1", type: "function", function: { name: "get_weather", arguments: '{"city":"Ulm"}' } };
    front.script.push(says([], { delta: { tool_calls: [call] } }), says("It is warm in Ulm."));
    await ask(page, "Weather in Ulm?");
    assert.equal(last(front.asked).tools[0].function.name, "get_weather");
    assert.deepEqual(last(front.asked).tool_choice, { type: "function", function: { name: "get_weather" } });
    const card = page.getByRole("region", { name: "Call of get_weather" });
    assert.match(await card.locator("code").last().innerText(), /"city": "Ulm"/);
    await card.getByLabel("Result").fill('{"celsius": 24}');
    await page.getByRole("button", { name: "Give result" }).click();
    await said(page, "It is warm in Ulm.");
    assert.deepEqual(last(front.asked).messages.slice(1), [
      { role: "assistant", content: null, tool_calls: [{ id: "call_1", type: "function", function: { name: "get_weather", arguments: '{"city":"Ulm"}' } }] },
      { role: "tool", tool_call_id: "call_1", content: '{"celsius": 24}' },
    ]);
  });
});

test("an answer keeps to a schema, and the server's refusal stands at its path", async () => {
  await inPage(session, { allowed: [REFUSED] }, async (page) => {
    await openSection(page, "Answer by schema");
    await page.getByRole("button", { name: "Put in an example" }).last().click();
    await page.getByText("The server accepts it.").waitFor();
    await answerSurely(page, 200);
    await ask(page, "Who wrote Faust, and when?");
    const answer = JSON.parse(await answers(page).locator(".markdown").innerText());
    assert.deepEqual(Object.keys(answer), ["name", "year"]);
    await page.getByLabel("JSON Schema").fill('{"type": "object", "properties": {"a": {"if": {}}}}');
    await page.locator(".mistake code", { hasText: "$.properties.a" }).waitFor();
    await page.getByLabel("JSON Schema").fill('{"type": ');
    await page.getByText("Not JSON yet").waitFor();
  });
});

test("tokens show what else could have stood there", async () => {
  await inPage(session, {}, async (page) => {
    await answerSurely(page, 8);
    await setParameter(page, "top_logprobs", 3);
    await ask(page, "The capital of France?");
    await page.getByRole("button", { name: "Show tokens" }).click();
    const tokens = page.locator(".token");
    assert.ok((await tokens.count()) > 1);
    await tokens.nth(1).hover();
    assert.equal(await page.locator(".alternatives tbody tr").count(), 3);
    assert.match(await page.locator(".alternatives caption").innerText(), /bits of doubt/);
    await tokens.nth(1).focus();
    await page.keyboard.press("ArrowLeft");
    assert.equal(await tokens.first().getAttribute("aria-current"), "true");
  });
});

const PIXEL = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64",
);
const FILE = { name: "dot.png", mimeType: "image/png", buffer: PIXEL };

const tiles = (page, image_tiles) =>
  page.route("**/outrider/v1/models/*", (route) => route.fulfill({ json: { id: "m", aliases: [], facts: null, image_tiles } }));

test("pictures are attached by upload, paste and drag, with their tiles and tokens", async () => {
  await inPage(session, {}, async (page, front) => {
    front.models = seeing;
    await tiles(page, { side: 336, max_tiles: 16, tokens_per_tile: 144 });
    await page.reload();
    await page.getByRole("button", { name: "Attach a picture", exact: true }).waitFor();
    await page.locator('input[type="file"][multiple]').setInputFiles(FILE);
    await page.getByText("1 tile, 147 tokens").waitFor();
    for (const kind of ["paste", "drop"]) {
      await page.getByLabel("Your message").evaluate((field, { kind, bytes }) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, { type: "image/png" }));
        const Kind = kind === "paste" ? ClipboardEvent : DragEvent;
        const extra = kind === "paste" ? { clipboardData: data } : { dataTransfer: data };
        field.dispatchEvent(new Kind(kind, { bubbles: true, cancelable: true, ...extra }));
      }, { kind, bytes: [...PIXEL] });
      await page.getByRole("img", { name: `${kind}.png` }).waitFor();
    }
    await page.getByRole("button", { name: "Remove drop.png" }).click();
    front.script.push(says("A dot."));
    await ask(page, "What is it?");
    const [first, second, third] = last(front.asked).messages[0].content;
    assert.deepEqual([first.type, second.type, third.text], ["image_url", "image_url", "What is it?"]);
    assert.ok(first.image_url.url.startsWith("data:image/png;base64,iVBOR"));
  });
});

test("what a picture costs is the served model's, and not said where it isn't known", async () => {
  await inPage(session, {}, async (page, front) => {
    front.models = seeing;
    await tiles(page, { side: 28, max_tiles: 4, tokens_per_tile: 1000 });
    await page.reload();
    await page.getByRole("button", { name: "Attach a picture", exact: true }).waitFor();
    await page.locator('input[type="file"][multiple]').setInputFiles(FILE);
    await page.getByText("1 tile, 1,003 tokens").waitFor();
    await page.getByText(/about 1,003 of/).waitFor();
    await page.unroute("**/outrider/v1/models/*");
    await page.reload();
    await page.getByRole("button", { name: "Attach a picture", exact: true }).waitFor();
    await page.locator('input[type="file"][multiple]').setInputFiles(FILE);
    await page.getByText("tokens: not known here").waitFor();
  });
});

test("a picture that is too large is refused before it is sent", async () => {
  await inPage(session, {}, async (page, front) => {
    front.models = seeing;
    await page.reload();
    await page.getByRole("button", { name: "Attach a picture", exact: true }).waitFor();
    await page.getByLabel("Your message").evaluate((field) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array((20 << 20) + 1)], "dot.png", { type: "image/png" }));
      field.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data }));
    });
    await page.getByText("dot.png has 20.0 MB; a picture may have 20.").waitFor();
    assert.equal(await page.getByRole("list", { name: "Attached pictures" }).count(), 0);
  });
});

test("a model that reads text only says so at the picture button; a file that is no picture is refused", async () => {
  await inPage(session, {}, async (page, front) => {
    assert.ok(await page.getByRole("button", { name: /reads text only/ }).isDisabled());
    front.models = seeing;
    await page.reload();
    await page.getByRole("button", { name: "Attach a picture", exact: true }).waitFor();
    await page.locator('input[type="file"][multiple]').setInputFiles({ ...FILE, buffer: Buffer.from("no picture") });
    await page.getByText("dot.png is damaged").waitFor();
  });
});

test("the code for each wire runs as it is shown, whatever the question holds", async () => {
  await inPage(session, {}, async (page) => {
    await setParameter(page, "max_tokens", 3);
    await page.getByLabel("Your message").fill(`It's "quoted" $HOME \`id\` \\ end`);
    await page.getByRole("button", { name: "View code" }).click();
    const dialog = page.getByRole("dialog", { name: "View code" });
    for (const wire of ["OpenAI", "OpenRouter", "Workers AI", "Dataoorts"]) {
      await dialog.getByRole("button", { name: wire, exact: true }).click();
      for (const language of ["Python", "TypeScript", "curl"]) {
        await dialog.getByRole("button", { name: language }).click();
        await dialog.locator("figcaption", { hasText: { curl: "bash" }[language] ?? language.toLowerCase() }).waitFor();
        assert.match(await dialog.locator("pre").innerText(), /max_tokens/);
      }
      const code = await dialog.locator("pre").innerText();
      const { stdout } = await promisify(execFile)("bash", ["-c", `${code} -sf`]);
      assert.match(stdout, /"completion_tokens":\s*[1-3]\b/, `${wire}: ${stdout}`);
    }
    await dialog.getByRole("button", { name: "Copy" }).click();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^curl 'http/);
  });
});

test("presets and links carry the settings and never the key", async () => {
  await inPage(session, {}, async (page, front, context) => {
    await page.getByRole("button", { name: "Enter a key" }).click();
    await page.getByLabel("API key of this server").fill("sk-or-v1-secret");
    await page.getByRole("button", { name: "Use it" }).click();
    await page.getByLabel("System prompt").fill("Answer in rhyme. ✓");
    await setParameter(page, "temperature", 0.2);
    await openSection(page, "Presets and links");
    await page.getByLabel("Name of the preset").fill("Rhymes");
    await page.getByRole("button", { name: "Keep" }).click();
    await page.getByRole("button", { name: "Copy a link" }).click();
    const link = await page.evaluate(() => navigator.clipboard.readText());
    assert.ok(!Buffer.from(link.split("=")[1], "base64url").toString().includes("secret"));
    assert.ok(!JSON.stringify(await page.evaluate(() => ({ ...localStorage }))).includes("secret"));
    const other = await context.newPage();
    await other.goto(link);
    await other.getByLabel("Your message").waitFor();
    assert.equal(await other.getByLabel("System prompt").inputValue(), "Answer in rhyme. ✓");
    assert.equal(await other.locator("#parameter-temperature").inputValue(), "0.2");
    assert.equal(await other.evaluate(() => sessionStorage.getItem("outrider.key")), null);
    await setParameter(page, "temperature", 1.5);
    await page.getByRole("list", { name: "Presets" }).getByRole("button", { name: "Rhymes", exact: true }).click();
    assert.equal(await page.locator("#parameter-temperature").inputValue(), "0.2");
  });
});
