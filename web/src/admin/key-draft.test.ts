import { expect, test } from "vitest";
import { bodyOf, draftOf } from "./key-draft";
import type { KeyRow } from "./types";

const ROW = {
  name: "n", limit: 2.5, limit_reset: "weekly", requests_per_minute: 3, tokens_per_minute: null, allowed_models: ["a", "b/c"],
} as KeyRow;

test("a key that isn't touched is sent as it was", () => {
  expect(bodyOf(draftOf(ROW), ROW)).toEqual({
    name: "n", limit: 2.5, limit_reset: "weekly", requests_per_minute: 3, tokens_per_minute: null, allowed_models: ["a", "b/c"],
  });
});

test("empty fields are no limits, and a limit that goes takes its reset along", () => {
  const draft = { ...draftOf(ROW), limit: "", models: " , x ," };
  expect(bodyOf(draft, ROW)).toMatchObject({ limit: null, limit_reset: null, allowed_models: ["x"] });
  expect(bodyOf({ ...draftOf(null), name: " a ", expires: "2030-01-02" }, null)).toMatchObject({ name: "a", expires_at: "2030-01-02T23:59:59Z" });
});
