import { expect, test } from "vitest";
import { python, shellQuoted, typescript } from "./literals";
import { type Language, LANGUAGES, sample, type Wire, WIRES } from "./samples";

const BODY = { model: "m", messages: [{ role: "user", content: `it's "x" \\ $HOME` }], temperature: 0, min_p: 0.1, top_a: 0.2 };
const FIELDS = { "/v1/chat/completions": ["model", "messages", "temperature", "min_p"] };

test("what a wire doesn't have is left out and named", () => {
  const { code, omitted } = sample(BODY, "openai", "curl", "http://h", FIELDS);
  expect(omitted).toEqual(["top_a"]);
  expect(code).not.toContain("top_a");
});

test("Python's client takes what it doesn't know as extra_body", () => {
  const { code } = sample(BODY, "openai", "python", "http://h", FIELDS);
  expect(code).toContain("    temperature=0,\n");
  expect(code).toContain('    extra_body={\n        "min_p": 0.1,\n    },');
});

test("each wire has its own address and envelope", () => {
  const curl = (wire: Parameters<typeof sample>[1]) => sample(BODY, wire, "curl", "http://h", {}).code;
  expect(curl("openrouter")).toContain("'http://h/api/v1/chat/completions'");
  expect(curl("workers-ai")).toContain("/ai/run/m'");
  expect(curl("workers-ai")).not.toContain('"model"');
  expect(curl("dataoorts")).toContain('"data"');
});

test("values are written as data of the language", () => {
  expect(shellQuoted("it's")).toBe(`'it'\\''s'`);
  expect(python({ a: [true, null, 1.5], "b c": "\u2028" })).toBe('{\n    "a": [\n        True,\n        None,\n        1.5,\n    ],\n    "b c": "\\u2028",\n}');
  expect(typescript({ a: [], "b c": {} })).toBe('{\n  a: [],\n  "b c": {},\n}');
});

test("every sample sends the key, and none holds it", () => {
  for (const wire of Object.keys(WIRES) as Wire[]) {
    for (const language of Object.keys(LANGUAGES) as Language[]) {
      const { code } = sample(BODY, wire, language, "http://h", {});
      expect(code).toMatch(/authorization|api_key=|apiKey:/i);
      expect(code).toContain("OUTRIDER_API_KEY");
    }
  }
});
