import { expect, test } from "vitest";
import type { Points, UsageAnswer } from "./answers";
import { requestsAt, usageSeries } from "./series";

const points = (...requests: number[]): Points => {
  const zeros = requests.map(() => 0);
  return { requests, failures: zeros, prompt_tokens: zeros, completion_tokens: zeros, cached_tokens: zeros, cost_usd: zeros };
};

const usage = (numGroups: number, rest: Points): UsageAnswer => ({
  groups: Array.from({ length: numGroups }, (_, at) => ({ name: `m${at}`, label: `M${at}`, total: {} as never, points: points(at + 1, 1) })),
  rest_points: rest,
} as unknown as UsageAnswer);

test("every group has a series as long as there are colours", () => {
  expect(usageSeries(usage(6, points(0, 0)), requestsAt).map(({ label }) => label)).toEqual(["M0", "M1", "M2", "M3", "M4", "M5"]);
  expect(usageSeries(usage(0, points(0, 0)), requestsAt)).toEqual([]);
});

test("what has no colour is one series, and nothing is lost", () => {
  for (const numGroups of [2, 6, 8]) {
    const series = usageSeries(usage(numGroups, points(100, 7)), requestsAt);
    expect(series.length).toBe(Math.min(numGroups + 1, 6));
    expect(series.at(-1)!.label).toBe("The rest");
    const total = series.reduce((sum, { values }) => sum + (values[0] ?? 0), 0);
    expect(total).toBe(100 + (numGroups * (numGroups + 1)) / 2);
  }
});
