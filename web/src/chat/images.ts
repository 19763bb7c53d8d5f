// Pictures that are attached: read, measured, refused in words if they are none. Also what a
// picture costs a model that cuts it into tiles; how it does is the server's to say.

import type { Image } from "./types";

/** How a model cuts pictures. */
export interface ImageTiles {
  side: number;
  max_tiles: number; // the one of the whole not counted
  tokens_per_tile: number;
}

export const MAX_IMAGE_BYTES = 20 << 20;
const KINDS = ["image/png", "image/jpeg", "image/webp", "image/gif"];

export async function readImage(file: File): Promise<Image> {
  if (!KINDS.includes(file.type)) throw new Error(`${file.name || "This file"} is no PNG, JPEG, WebP or GIF picture.`);
  if (file.size > MAX_IMAGE_BYTES) {
    throw new Error(`${file.name} has ${(file.size / 2 ** 20).toFixed(1)} MB; a picture may have 20.`);
  }
  const url = await dataUrl(file);
  const { width, height } = await measure(url, file.name);
  return { name: file.name || "picture", url, width, height };
}

function dataUrl(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(new Error(`${file.name} can't be read.`));
    reader.readAsDataURL(file);
  });
}

function measure(url: string, name: string): Promise<{ width: number; height: number }> {
  return new Promise((resolve, reject) => {
    const picture = new window.Image();
    picture.onload = () => resolve({ width: picture.naturalWidth, height: picture.naturalHeight });
    picture.onerror = () => reject(new Error(`${name} is damaged: the browser can't show it.`));
    picture.src = url;
  });
}

/** Rows and columns of tiles, as the model's preprocessing chooses them. */
export function bestCanvas(width: number, height: number, { side, max_tiles: most }: ImageTiles): { rows: number; cols: number } {
  const canvases: { rows: number; cols: number; scale: number }[] = [];
  for (let rows = 1; rows <= most; rows++) {
    for (let cols = 1; cols <= Math.floor(most / rows); cols++) {
      const scale = Math.fround(Math.min((cols * side) / width, (rows * side) / height));
      canvases.push({ rows, cols, scale });
    }
  }
  const enlarging = canvases.map(({ scale }) => scale).filter((scale) => scale >= 1);
  const chosen = enlarging.length ? Math.min(...enlarging) : Math.max(...canvases.map(({ scale }) => scale));
  const equal = canvases.filter(({ scale }) => scale === chosen);
  return equal.reduce((least, one) => (one.rows * one.cols < least.rows * least.cols ? one : least));
}

/** Tiles (with the global one) and tokens of a picture: patches, separators, begin and end. */
export function imageCost(width: number, height: number, model: ImageTiles): { tiles: number; tokens: number } {
  const { rows, cols } = bestCanvas(width, height, model);
  const each = model.tokens_per_tile;
  const local = rows * cols;
  if (local === 1) return { tiles: 1, tokens: each + 3 };
  const row = cols * each + (cols - 1) + 1;
  return { tiles: local + 1, tokens: rows * row + each + 3 };
}
