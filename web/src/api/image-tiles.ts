// How the chosen models cut pictures, asked of the server once for each model that reads them. For a
// model that runs elsewhere nobody here knows, so nothing is said of what a picture costs.

import { effect, signal } from "@preact/signals";
import type { ImageTiles } from "../chat/images";
import { conversation } from "../chat/store";
import { getJson } from "./get";
import { modelsById, readsImages } from "./models";

const tilesById = signal<ReadonlyMap<string, ImageTiles | null>>(new Map());
const asked = new Set<string>();

export function tilesOf(model: string): ImageTiles | null {
  return tilesById.value.get(model) ?? null;
}

effect(() => {
  for (const { model } of conversation.value.threads) {
    if (asked.has(model) || !readsImages(modelsById.value.get(model))) continue;
    asked.add(model);
    void load(model);
  }
});

async function load(model: string): Promise<void> {
  const path = `/outrider/v1/models/${model.split("/").map(encodeURIComponent).join("/")}`;
  const page = await getJson<{ image_tiles: ImageTiles | null }>(path).catch(() => null);
  tilesById.value = new Map(tilesById.peek()).set(model, page?.image_tiles ?? null);
}
