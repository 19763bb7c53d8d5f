// Moves through the keys, which the server lists a hundred at a time.

import { useState } from "preact/hooks";

export const KEYS_PER_PAGE = 100;
const ALL_KEYS = "/api/v1/keys?include_disabled=true&include_expired=true";

export interface Paging {
  path: string;
  offset: number;
  move: (offset: number) => void;
}

export function useKeyPages(): Paging {
  const [offset, move] = useState(0);
  return { path: `${ALL_KEYS}&offset=${offset}`, offset, move };
}

export function KeyPages({ paging: { offset, move }, num }: { paging: Paging; num: number }) {
  if (offset === 0 && num < KEYS_PER_PAGE) return null;
  return (
    <div class="row pager">
      <button type="button" disabled={offset === 0} onClick={() => move(Math.max(0, offset - KEYS_PER_PAGE))}>Earlier keys</button>
      <span class="faint">{offset + 1} to {offset + num}</span>
      <button type="button" disabled={num < KEYS_PER_PAGE} onClick={() => move(offset + KEYS_PER_PAGE)}>Later keys</button>
    </div>
  );
}
