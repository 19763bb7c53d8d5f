import { expect, test } from "vitest";
import type { Document } from "../api/document";
import { schemaOf } from "./schemas";
import { pageOf } from "./types";

const CHAT = "/v1/chat/completions";
const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` });
const DOCUMENT = {
  paths: {
    "/v1/chat/completions": {
      post: {
        requestBody: { content: { "application/json": { schema: ref("Body") } } },
        responses: { 200: { content: { "application/json": { schema: { type: "object" } } } } },
      },
    },
  },
  components: { schemas: { Body: { properties: { part: ref("Part") } }, Part: { items: ref("Part") }, Other: {} } },
} as unknown as Document;

test("a schema takes along what it refers to, itself included, and nothing else", () => {
  expect(schemaOf(DOCUMENT, CHAT, "input")).toEqual({
    $schema: expect.any(String),
    $ref: "#/$defs/Body",
    $defs: { Body: { properties: { part: { $ref: "#/$defs/Part" } } }, Part: { items: { $ref: "#/$defs/Part" } } },
  });
  expect(schemaOf(DOCUMENT, CHAT, "output")).toEqual({ $schema: expect.any(String), type: "object" });
});

test("what isn't in the document isn't invented", () => {
  expect(schemaOf(DOCUMENT, CHAT, "stream")).toBeNull();
  expect(schemaOf(DOCUMENT, "/other", "input")).toBeNull();
});

test("a model's address keeps its slash and hides everything else", () => {
  expect(pageOf("a/b c:free?<x>")).toBe("/models/a/b%20c%3Afree%3F%3Cx%3E");
});
