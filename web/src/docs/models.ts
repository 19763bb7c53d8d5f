// Which model an example names: one that the server has and that does what the operation does.

import { models } from "../api/models";

export function modelFor(path: string): string {
  const isEmbedding = path.includes("embeddings");
  const found = models.value.find(({ architecture }) => (architecture.output_modalities ?? []).includes("embeddings") === isEmbedding);
  return (found ?? models.value[0])?.id ?? "";
}
