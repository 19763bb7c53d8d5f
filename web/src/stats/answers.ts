// What the server answers under /outrider/v1/statistics; docs/statistics.md says what it means.

export interface Range {
  first: string;
  last: string;
  interval: "hour" | "day";
}

export type GroupName = "model" | "provider" | "key" | "app";

export interface Total {
  requests: number;
  failures: number;
  prompt_tokens: number;
  completion_tokens: number;
  cached_tokens: number;
  cost_usd: number;
}

export type Points = Record<keyof Total, number[]>;

export interface UsageGroup {
  name: string;
  label: string;
  total: Total;
  points: Points | null;
}

export interface UsageAnswer {
  range: Range;
  group_by: GroupName;
  begins_s: number[];
  total: Total;
  points: Points;
  groups: UsageGroup[];
  rest: Total;
  rest_points: Points;
}

export interface Percentiles {
  count: number;
  p50_ms: number | null;
  p90_ms: number | null;
  p99_ms: number | null;
}

export type What = "time_to_first_token" | "duration";

export type TimesGroup = { name: string; label: string } & Record<What, Percentiles>;

export type LatencyAnswer = Record<What, Percentiles> & {
  range: Range;
  groups_range: Range;
  error_percent: number;
  begins_s: number[];
  points: Record<What, Record<keyof Percentiles, (number | null)[]>>;
  groups: TimesGroup[];
};

export type Origin = "client" | "gateway" | "provider" | "engine";

export interface ErrorsAnswer {
  range: Range;
  group_by: GroupName;
  begins_s: number[];
  points: Record<Origin, number[]>;
  statuses: { origin: Origin; status: number; requests: number }[];
  groups: { name: string; label: string; origins: Record<Origin, number> }[];
}

export interface Engine {
  model: string;
  is_ready: boolean;
  times_s: number[];
  batch_size: number[];
  queue: number[];
  kv_use: number[];
  prefix_hits: (number | null)[];
  output_tokens_per_s: number[];
  prompt_tokens_per_s: number[];
}

export interface EnginesAnswer {
  interval_s: number;
  engines: Engine[];
}
