import { expect, test } from "vitest";
import { exported, imported, readSettings, settingsFromHash, shareLink } from "./share";
import { emptySettings, newConversation } from "./types";

test("settings come back from their link", () => {
  const settings = { ...emptySettings("m"), system: "ünï ✓", parameters: { temperature: 0.5, stop: ["a"] } };
  expect(settingsFromHash(new URL(shareLink(settings)).hash)).toEqual(settings);
});

test("a damaged or strange link gives nothing, or only what is known", () => {
  expect(settingsFromHash("#settings=%%%")).toBeNull();
  expect(settingsFromHash("#settings=AAAA")).toBeNull();
  expect(readSettings({ model: 5, evil: 1, parameters: { a: {}, b: 1 } })).toEqual({ ...emptySettings(), parameters: { b: 1 } });
});

test("conversations come back from their file", () => {
  const one = newConversation({ ...emptySettings("m"), tools: "[]" });
  expect(imported(exported([one]))).toEqual([one]);
});

test("foreign pictures in a file are left out", () => {
  const file = JSON.stringify({
    format: "outrider.conversations.v1",
    conversations: [{ threads: [{ messages: { a: { id: "a", role: "user", text: 5, images: [{ url: "https://x.example/p.png" }] } }, head: "a" }] }],
  });
  const message = imported(file)[0]!.threads[0]!.messages.a!;
  expect(message.images).toEqual([]);
  expect(message.text).toBe("5");
});

test.each(["no json", "{}", '{"format": "other", "conversations": []}'])("%s is refused in words", (text) => {
  expect(() => imported(text)).toThrow(/isn't/);
});
