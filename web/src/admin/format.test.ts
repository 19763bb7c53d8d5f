import { expect, test } from "vitest";
import { bytes, lasting, money } from "./format";

test("sizes, amounts and times are short", () => {
  expect([0, 1023, 1024, 98_362_432, 3 * 2 ** 30].map(bytes)).toEqual(["0 B", "1023 B", "1.0 KiB", "94 MiB", "3.0 GiB"]);
  expect([0, 0.000012, 1.5, 1234].map(money)).toEqual(["$0", "$0.000012", "$1.50", "$1234.00"]);
  expect([0.02, 4.25, 59, 120, 7200, 200_000].map(lasting)).toEqual(["20 ms", "4.3 s", "59 s", "2 min", "2 h", "2 d"]);
});
