// What the server says of a model beyond the catalogue's list; see docs/api.md.

import type { Model } from "../api/models";

export interface Score {
  benchmark: string;
  score: number;
  unit: string;
  setting: string;
  source: string;
}

export interface Facts {
  title: string;
  author: string;
  summary: string;
  license: string;
  license_url: string;
  released: string | null;
  hugging_face_id: string;
  source: string;
  knowledge_cutoff: string | null;
  parameters: number | null;
  active_parameters: number | null;
  architecture: string;
  trained_context: number | null;
  trained_tokens: number | null;
  languages: string[];
  scores: Score[];
  strengths: string[];
  limits: string[];
}

export interface Page {
  id: string;
  aliases: string[];
  facts: Facts | null;
}

export type Percentiles = Partial<Record<"p50" | "p75" | "p90" | "p99", number>>;

export interface Endpoint {
  provider_name: string;
  tag: string;
  context_length: number;
  max_completion_tokens: number | null;
  quantization: string;
  pricing: { prompt: string; completion: string; request?: string; image?: string; input_cache_read?: string };
  supported_parameters: string[];
  status: number;
  uptime_last_5m: number | null;
  uptime_last_30m: number | null;
  uptime_last_1d: number | null;
  latency_last_30m: Percentiles | null;
  throughput_last_30m: Percentiles | null;
}

export interface Use {
  as_of: string;
  days: { day: string; requests: number; failures: number; prompt_tokens: number; completion_tokens: number }[];
  hours: { begin: string; requests: number; refused: number; failures: number; uptime: number | null }[];
  apps: { title: string; url: string; requests: number; tokens: number }[];
}

/** Where a model's page is: names may hold anything, a slash parts author and slug. */
export function pageOf(id: string): string {
  return `/models/${pathOf(id)}`;
}

export function pathOf(id: string): string {
  return id.split("/").map(encodeURIComponent).join("/");
}

export function makesEmbeddings(model: Model): boolean {
  return model.architecture.output_modalities?.includes("embeddings") ?? false;
}

export const CAPABILITIES: Record<string, string> = {
  tools: "Tools", structured_outputs: "JSON Schema", logprobs: "Logprobs", seed: "Seed", logit_bias: "Logit bias",
};

export function capabilitiesOf(supported: string[]): string[] {
  return Object.entries(CAPABILITIES).flatMap(([name, label]) => (supported.includes(name) ? [label] : []));
}
