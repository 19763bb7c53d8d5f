import { expect, test } from "vitest";
import type { Document } from "../api/document";
import { exampleBody } from "./example";
import { grouped, groupedStatuses, operationsOf } from "./operations";
import { addressOf } from "./request";
import { fieldsOf, limitsOf, shapesOf, sorted, typeOf } from "./tree";

const NODE = {
  type: "object", title: "Node", required: ["name"],
  properties: {
    name: { type: "string" },
    children: { type: "array", items: { $ref: "#/components/schemas/Node" } },
    old: { description: "Inert: accepted, and without effect." },
  },
};
const CHAT = {
  type: "object", required: ["messages"],
  properties: {
    model: { type: "string" }, messages: { type: "array", items: { $ref: "#/components/schemas/Node" } },
    max_tokens: { anyOf: [{ type: "integer", minimum: 1 }, { type: "null" }], default: null },
  },
};
const DOCUMENT = {
  paths: {
    "/v1/a/{b}": { get: { operationId: "getA", tags: ["One"], summary: "Show a thing.", responses: { 200: { description: "Good." }, 400: { description: "Bad." }, 401: { description: "Bad." } } } },
    "/v1/b": { post: { operationId: "postB", tags: ["Two"], summary: "Make one." }, delete: { tags: ["Two"] } },
  },
  components: { schemas: { Node: NODE, Chat: CHAT } },
} as unknown as Document;

test("operations are listed by wire, and found by every word", () => {
  const all = operationsOf(DOCUMENT);
  expect(all.map(({ id }) => id)).toEqual(["getA", "postB", "delete-v1-b"]);
  expect(grouped(all, "").map(({ tag, operations }) => [tag, operations.length])).toEqual([["One", 1], ["Two", 2]]);
  expect(grouped(all, "post MAKE")[0]!.operations.map(({ id }) => id)).toEqual(["postB"]);
  expect(grouped(all, "post thing")).toEqual([]);
});

test("statuses that answer alike stand together", () => {
  const groups = groupedStatuses(DOCUMENT.paths["/v1/a/{b}"]!.get!);
  expect(groups.map(({ statuses }) => statuses)).toEqual([["200"], ["400", "401"]]);
});

test("types are words, and a schema that holds itself ends", () => {
  const node = { $ref: "#/components/schemas/Node" };
  expect(typeOf(DOCUMENT, node)).toBe("Node");
  expect(typeOf(DOCUMENT, { type: "array", items: { anyOf: [node, { type: "null" }] } })).toBe("array of Node or null");
  expect(typeOf(DOCUMENT, { enum: ["a", 1] })).toBe('"a" or 1');
  expect(typeOf(DOCUMENT, { type: "object", additionalProperties: { type: "number" } })).toBe("map to number");
  const [shape] = shapesOf(DOCUMENT, { type: "array", items: node });
  const inside = fieldsOf(shape!.schema).find(({ name }) => name === "children")!;
  expect(shapesOf(DOCUMENT, inside.schema)[0]!.schema).toBe(shape!.schema);
});

test("fields that do nothing come last, and demanded ones first", () => {
  const { active, idle } = sorted(fieldsOf(NODE));
  expect([active.map(({ name }) => name), idle.map(({ name }) => name)]).toEqual([["name", "children"], ["old"]]);
});

test("bounds and defaults are said, but not those of 64 bits", () => {
  expect(limitsOf({ anyOf: [{ type: "number", minimum: 0, maximum: 2 }, { type: "null" }], default: null, "x-outrider-default": 1 })).toEqual(["0 to 2", "default 1"]);
  expect(limitsOf({ type: "integer", minimum: -(2 ** 63), maximum: 2 ** 64 })).toEqual([]);
  expect(limitsOf({ exclusiveMinimum: 0, pattern: "^a$", maxItems: 4 })).toEqual(["more than 0", "at most 4 items", "matches ^a$"]);
});

test("an example has what is demanded and a served model", () => {
  expect(exampleBody(DOCUMENT, { $ref: "#/components/schemas/Chat" }, "m")).toEqual({
    model: "m", messages: [{ role: "user", content: "Why is the sky blue?" }], max_tokens: 64,
  });
  expect(exampleBody(DOCUMENT, { $ref: "#/components/schemas/Node" }, "m")).toEqual({ name: "text" });
  expect(exampleBody(DOCUMENT, { anyOf: [NODE, { $ref: "#/components/schemas/Chat" }] }, "m")).toHaveProperty("messages");
});

test("a path is filled in, with what a URL can't hold written for it", () => {
  expect(addressOf("/v1/{model}/x", { model: "a/b c" }, { q: "1&2", empty: "" })).toBe("/v1/a/b%20c/x?q=1%262");
});
