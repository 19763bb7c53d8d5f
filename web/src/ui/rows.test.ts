import { expect, test } from "vitest";
import { compare, csvOf, lonely, placesToDraw, stacked } from "./rows";

test("nothing comes last whichever way a column is sorted", () => {
  const cells = [3, null, 1, 2];
  expect([...cells].sort((a, b) => compare(a, b, false))).toEqual([1, 2, 3, null]);
  expect([...cells].sort((a, b) => compare(a, b, true))).toEqual([3, 2, 1, null]);
  expect(["m10", "m9"].sort((a, b) => compare(a, b, false))).toEqual(["m9", "m10"]);
});

test("CSV quotes what has to be quoted and disarms formulas", () => {
  const text = csvOf(["name", "n"], [['a "b", c', 1.5], ["=SUM(A1)", null], ["two\nlines", -2]]);
  expect(text).toBe('name,n\r\n"a ""b"", c",1.5\r\n\'=SUM(A1),\r\n"two\nlines",-2\r\n');
});

test("a hundred thousand points are thinned without losing a peak, a dip or a gap", () => {
  const values: (number | null)[] = Array.from({ length: 100_000 }, (_, at) => Math.sin(at / 500));
  values[12_345] = 50;
  values[54_321] = -50;
  values[77_777] = null;
  const places = placesToDraw([values], values.length, 1000);
  expect(places.length).toBeLessThanOrEqual(3002);
  for (const at of [0, 12_345, 54_321, 77_777, 99_999]) expect(places).toContain(at);
  expect(places).toEqual([...places].sort((a, b) => a - b));
  expect(placesToDraw([[1, 2, 3]], 3, 1000)).toEqual([0, 1, 2]);
});

test("series on top of each other end at their sum", () => {
  expect(stacked([[1, null], [2, 3]])).toEqual([[1, 0], [3, 3]]);
});

test("values between gaps are found, at the ends, too", () => {
  expect(lonely([1, null, 2, 3, null, 4, null, null, 5])).toEqual([0, 5, 8]);
  expect(lonely([])).toEqual([]);
});
