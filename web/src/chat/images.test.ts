import { expect, test } from "vitest";
import { bestCanvas, imageCost } from "./images";

const LLAMA_4 = { side: 336, max_tiles: 16, tokens_per_tile: 144 };

// What the server's own preprocessing chooses: width, height, rows, columns.
const CHOSEN = [[1, 1, 1, 1], [336, 336, 1, 1], [337, 336, 1, 2], [672, 336, 1, 2], [800, 600, 2, 3], [1000, 1000, 3, 3], [1920, 1080, 3, 5], [1080, 1920, 5, 3], [4000, 3000, 3, 4], [5000, 100, 1, 15], [100, 5000, 15, 1], [1344, 1344, 4, 4], [333, 777, 3, 1]];

test.each(CHOSEN)("a picture of %i x %i becomes %i x %i tiles", (width, height, rows, cols) => {
  expect(bestCanvas(width!, height!, LLAMA_4)).toMatchObject({ rows, cols });
});

test("a picture costs its patches, separators, begin and end", () => {
  expect(imageCost(336, 336, LLAMA_4)).toEqual({ tiles: 1, tokens: 147 });
  expect(imageCost(672, 336, LLAMA_4)).toEqual({ tiles: 3, tokens: 2 * 144 + 2 + 147 });
  expect(imageCost(672, 336, { ...LLAMA_4, max_tiles: 1, tokens_per_tile: 4 })).toEqual({ tiles: 1, tokens: 7 });
});
