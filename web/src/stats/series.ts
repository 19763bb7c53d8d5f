// Charts' series out of answers: groups that have a colour of their own, and everything else as one.

import { MAX_SERIES, type Series } from "../ui/Chart";
import type { ErrorsAnswer, LatencyAnswer, Origin, Points, UsageAnswer, What } from "./answers";

export const ORIGINS: Record<Origin, string> = {
  client: "Client",
  gateway: "Gateway",
  provider: "Provider",
  engine: "Engine",
};

/** Give a series for each of the first groups and one for the rest, which may be all there is. */
export function usageSeries(usage: UsageAnswer, valueOf: (points: Points, at: number) => number): Series[] {
  const values = (points: Points) => points.requests.map((_, at) => valueOf(points, at));
  const drawn = usage.groups.filter(({ points }) => points !== null);
  const own = drawn.length < MAX_SERIES || (drawn.length === MAX_SERIES && !hasAny(usage.rest_points)) ? drawn : drawn.slice(0, MAX_SERIES - 1);
  const others = [...drawn.slice(own.length).map(({ points }) => points!), usage.rest_points].filter(hasAny);
  const series = own.map(({ label, points }) => ({ label, values: values(points!) }));
  return others.length === 0 ? series : [...series, { label: "The rest", values: added(others.map(values)) }];
}

export const tokensAt = (points: Points, at: number) => points.prompt_tokens[at]! + points.completion_tokens[at]!;
export const costAt = (points: Points, at: number) => points.cost_usd[at]!;
export const requestsAt = (points: Points, at: number) => points.requests[at]!;

export function timeSeries(latency: LatencyAnswer, what: What): Series[] {
  const { p50_ms, p90_ms, p99_ms } = latency.points[what];
  return [
    { label: "p50", values: p50_ms },
    { label: "p90", values: p90_ms },
    { label: "p99", values: p99_ms },
  ];
}

export function errorSeries({ points }: ErrorsAnswer): Series[] {
  return (Object.keys(ORIGINS) as Origin[]).map((origin) => ({ label: ORIGINS[origin], values: points[origin] }));
}

function hasAny(points: Points): boolean {
  return points.requests.some((count) => count > 0);
}

function added(lists: number[][]): number[] {
  return lists[0]!.map((_, at) => lists.reduce((sum, list) => sum + list[at]!, 0));
}
