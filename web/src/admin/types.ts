// What the own endpoints of administration give; see docs/administration.md and docs/keys.md.

export type Reset = "daily" | "weekly" | "monthly" | null;

export interface KeyRow {
  hash: string;
  name: string;
  label: string;
  disabled: boolean;
  created_at: string;
  expires_at: string | null;
  last_used_at: string | null;
  limit: number | null;
  limit_remaining: number | null;
  limit_reset: Reset;
  usage: number;
  usage_daily: number;
  usage_weekly: number;
  usage_monthly: number;
  allowed_models: string[];
  requests_per_minute: number | null;
  tokens_per_minute: number | null;
}

export interface Counted {
  good: number;
  failed: number;
}

export interface EndpointRow {
  provider: string;
  provider_name: string;
  model: string;
  is_local: boolean;
  is_ready: boolean;
  breaker: "closed" | "open" | "half_open";
  wait_s: number | null;
  cooldown_s: number;
  denial: boolean;
  running: number;
  max_concurrent: number | null;
  requests_per_minute: number | null;
  results_30s: Counted;
  results_5m: Counted;
  results_30m: Counted;
  results_1d: Counted;
  last_error: { code: string; upstream_status: number | null; ago_s: number } | null;
}

export interface EndpointList {
  data: EndpointRow[];
  retries_left: number;
  max_retries: number;
}

export interface Checked {
  provider: string;
  model: string;
  is_answering: boolean;
  problem: string | null;
  answer_s: number | null;
  proven: string[];
  failed: Record<string, string>;
}

export interface Attempt {
  provider: string;
  model: string;
  status: number;
  error_code: string;
  duration_ms: number;
}

export interface RequestRow {
  id: string;
  created_at: string;
  key: string | null;
  key_name: string | null;
  app_url: string | null;
  app_title: string | null;
  wire: string;
  model: string;
  provider: string | null;
  status: number;
  error_code: string | null;
  finish_reason: string | null;
  prompt_tokens: number;
  completion_tokens: number;
  cached_tokens: number;
  cost_usd: number;
  first_token_ms: number | null;
  duration_ms: number;
  is_streamed: boolean;
  is_cancelled: boolean;
  attempts: Attempt[];
}

export interface BatchRow {
  id: string;
  wire: string;
  endpoint: string;
  model: string | null;
  status: string;
  key: string | null;
  key_name: string | null;
  created_at: string;
  deadline_at: string;
  ended_at: string | null;
  num_requests: number;
  num_completed: number;
  num_failed: number;
}

export interface ModelRow {
  name: string;
  kind: "chat" | "embedding";
  is_pulled: boolean;
  is_loaded: boolean;
  format: string | null;
  size_bytes: number | null;
  packed_bytes: number;
  licence: string | null;
}

export interface EngineRow {
  state: "none" | "loading" | "ready" | "restarting" | "unloading";
  model: string | null;
  served_as: string | null;
  context_length: number | null;
  running: number;
  waiting: number;
  restarts: number;
}

export interface JobRow {
  id: string;
  kind: "pull" | "load" | "unload";
  model: string;
  state: "running" | "done" | "failed" | "cancelled";
  text: string;
  done_bytes: number;
  total_bytes: number | null;
  error: string | null;
  can_cancel: boolean;
}

export interface OwnModels {
  data: ModelRow[];
  engine: EngineRow;
  jobs: JobRow[];
  default_model: string;
  free_disk_bytes: number | null;
  free_memory_bytes: number | null;
}
