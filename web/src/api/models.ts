// Which models there are and what each can do, from OpenRouter's list.

import { computed, signal } from "@preact/signals";
import { apiKey } from "./key";
import { OFFLINE, type Problem, problemOf } from "./problems";

export interface Model {
  id: string;
  name: string;
  description?: string;
  created?: number;
  context_length: number | null;
  architecture: { input_modalities: string[]; output_modalities?: string[] };
  top_provider?: { max_completion_tokens: number | null };
  pricing: { prompt: string; completion: string };
  supported_parameters: string[];
  default_parameters: Record<string, number | null> | null;
}

export const models = signal<Model[]>([]);
export const modelsProblem = signal<Problem | null>(null);
export const areModelsLoaded = signal(false);
export const modelsById = computed(() => new Map(models.value.map((model) => [model.id, model])));

export async function loadModels(): Promise<void> {
  try {
    const headers: HeadersInit = apiKey.value ? { authorization: `Bearer ${apiKey.value}` } : {};
    const reply = await fetch("/api/v1/models", { headers });
    const answer = await reply.json();
    if (!reply.ok) {
      modelsProblem.value = problemOf(reply.status, answer.error);
      return;
    }
    models.value = answer.data as Model[];
    modelsProblem.value = null;
    areModelsLoaded.value = true;
  } catch {
    modelsProblem.value = OFFLINE;
  }
}

export function readsImages(model: Model | undefined): boolean {
  return model?.architecture.input_modalities.includes("image") ?? false;
}
