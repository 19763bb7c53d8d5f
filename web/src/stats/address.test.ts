import { expect, test } from "vitest";
import { isSpan, queryOf, readAddress } from "./address";

test("what an address says is what it is written for again", () => {
  for (const search of ["?range=24h&group_by=key", "?start_date=2026-01-01&end_date=2026-03-01&group_by=app"]) {
    expect(`?${queryOf(readAddress(search))}`).toBe(search);
  }
});

test("what doesn't exist falls back to a week by model", () => {
  for (const search of ["", "?range=1y&group_by=wire", "?range=toString&group_by=constructor", "?start_date=2026-02-30&end_date=x"]) {
    expect(readAddress(search)).toEqual({ range: "7d", start: "", end: "", groupBy: "model" });
  }
});

test("a span is at most a year, and in order", () => {
  expect(isSpan("2026-01-01", "2026-01-01")).toBe(true);
  expect(isSpan("2026-01-02", "2026-01-01")).toBe(false);
  expect(isSpan("2024-01-01", "2024-12-31")).toBe(true);
  expect(isSpan("2024-01-01", "2025-01-01")).toBe(false);
  expect(isSpan("2026-1-1", "2026-01-02")).toBe(false);
});
