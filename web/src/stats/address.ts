// What the page shows, as its address says it: a link shows somebody else the same. What an address
// has that doesn't exist falls back to what is shown without it.

import type { GroupName } from "./answers";

export const RANGES = { "24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days" } as const;
export const GROUPS: Record<GroupName, string> = { model: "Model", provider: "Provider", key: "Key", app: "App" };
export const MAX_DAYS = 366;
const DAY_MS = 86_400_000;

export type RangeName = keyof typeof RANGES;

export interface Shown {
  range: RangeName | "custom";
  start: string; // days such as 2026-05-11, of a custom range
  end: string;
  groupBy: GroupName;
}

export function readAddress(search: string): Shown {
  const query = new URLSearchParams(search);
  const groupBy = pick(GROUPS, query.get("group_by"), "model");
  const [start, end] = [query.get("start_date") ?? "", query.get("end_date") ?? ""];
  if (isSpan(start, end)) return { range: "custom", start, end, groupBy };
  return { range: pick(RANGES, query.get("range"), "7d"), start: "", end: "", groupBy };
}

/** Give the query for an address of the page or of the server: they are the same. */
export function queryOf({ range, start, end, groupBy }: Shown): string {
  const time: Record<string, string> = range === "custom" ? { start_date: start, end_date: end } : { range };
  return new URLSearchParams({ ...time, group_by: groupBy }).toString();
}

/** Whether these are two days in their order, and no further apart than the server answers for. */
export function isSpan(start: string, end: string): boolean {
  const [first, last] = [timeOf(start), timeOf(end)];
  return first !== null && last !== null && first <= last && (last - first) / DAY_MS < MAX_DAYS;
}

function timeOf(day: string): number | null {
  const time = /^\d{4}-\d{2}-\d{2}$/.test(day) ? Date.parse(`${day}T00:00:00Z`) : NaN;
  return Number.isNaN(time) || new Date(time).toISOString().slice(0, 10) !== day ? null : time;
}

function pick<Name extends string>(known: Record<Name, string>, name: string | null, otherwise: Name): Name {
  return name !== null && Object.hasOwn(known, name) ? (name as Name) : otherwise;
}
