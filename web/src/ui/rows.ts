// Rows of tables and charts: how they are sorted, thinned for drawing, and written as CSV.

export type Cell = string | number | null;

/** Compare two cells; nothing comes last in either direction. */
export function compare(a: Cell, b: Cell, isDescending: boolean): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return isDescending ? -order : order;
}

export function csvOf(headings: string[], rows: Cell[][]): string {
  return [headings, ...rows].map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function csvCell(cell: Cell): string {
  if (cell === null) return "";
  if (typeof cell === "number") return String(cell);
  // A spreadsheet would run a name that looks like a formula, and names come from strangers.
  const text = /^[=+\-@\t\r\n]/.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * Give the places of the points that matter to a line drawn over `parts` columns: the least and the
 * greatest of every series in each column, so that no peak gets lost.
 */
export function placesToDraw(series: (number | null)[][], length: number, parts: number): number[] {
  if (length <= 2 * parts) return Array.from({ length }, (_, at) => at);
  const kept = new Set([0, length - 1]);
  for (let part = 0; part < parts; part++) {
    const begin = Math.floor((part * length) / parts);
    const end = Math.floor(((part + 1) * length) / parts);
    for (const values of series) for (const at of extremes(values, begin, end)) kept.add(at);
  }
  return [...kept].sort((a, b) => a - b);
}

function extremes(values: (number | null)[], begin: number, end: number): number[] {
  let least = -1;
  let greatest = -1;
  let missing = -1;
  for (let at = begin; at < end; at++) {
    const value = values[at] ?? null;
    if (value === null) missing = at;
    else {
      if (least < 0 || value < (values[least] as number)) least = at;
      if (greatest < 0 || value > (values[greatest] as number)) greatest = at;
    }
  }
  return [least, greatest, missing].filter((at) => at >= 0); // a gap stays a gap
}

/** Give the places of values between gaps: a line can't show them. */
export function lonely(values: readonly (number | null | undefined)[]): number[] {
  const isGap = (at: number) => (values[at] ?? null) === null;
  return values.flatMap((_, at) => (!isGap(at) && isGap(at - 1) && isGap(at + 1) ? [at] : []));
}

/** Put series on top of each other: each with the sum of those before it. */
export function stacked(series: (number | null)[][]): (number | null)[][] {
  let below: number[] = [];
  return series.map((values) => {
    below = values.map((value, at) => (value ?? 0) + (below[at] ?? 0));
    return below;
  });
}
