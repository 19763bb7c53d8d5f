// A key as it stands in the form, and the body that makes or changes it. Empty fields are no limits.

import type { KeyRow, Reset } from "./types";

export interface Draft {
  name: string;
  limit: string;
  reset: "" | "daily" | "weekly" | "monthly";
  requests: string;
  tokens: string;
  models: string;
  expires: string; // a day
}

export function draftOf(row: KeyRow | null): Draft {
  const text = (value: number | null | undefined) => (value === null || value === undefined ? "" : String(value));
  return {
    name: row?.name ?? "",
    limit: text(row?.limit),
    reset: row?.limit_reset ?? "",
    requests: text(row?.requests_per_minute),
    tokens: text(row?.tokens_per_minute),
    models: row?.allowed_models.join(", ") ?? "",
    expires: "",
  };
}

/** Give the body; the end of a key is chosen when it is made. */
export function bodyOf(draft: Draft, row: KeyRow | null): Record<string, unknown> {
  const number = (text: string) => (text.trim() === "" ? null : Number(text));
  const limit = number(draft.limit);
  const reset: Reset = limit === null || draft.reset === "" ? null : draft.reset;
  const body: Record<string, unknown> = {
    name: draft.name.trim(),
    limit,
    limit_reset: reset,
    requests_per_minute: number(draft.requests),
    tokens_per_minute: number(draft.tokens),
    allowed_models: draft.models.split(",").map((name) => name.trim()).filter(Boolean),
  };
  if (!row && draft.expires) body.expires_at = `${draft.expires}T23:59:59Z`;
  return body;
}
