// The operations of the API's document as the reference lists them: by wire, in the document's
// order. Pure; what isn't in the document isn't shown.

import type { Document, OperationOf } from "../api/document";

export interface Listed {
  id: string;
  method: string; // GET, POST, …
  path: string;
  tag: string;
  summary: string;
  operation: OperationOf;
}

export interface Group {
  tag: string;
  operations: Listed[];
}

const METHODS = ["get", "post", "put", "patch", "delete"];

export function operationsOf(document: Document): Listed[] {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    METHODS.flatMap((method) => {
      const operation = item[method];
      if (!operation) return [];
      const id = operation.operationId ?? `${method}${path.replace(/\W+/g, "-")}`;
      const tag = operation.tags?.[0] ?? "Others";
      return [{ id, method: method.toUpperCase(), path, tag, summary: operation.summary ?? "", operation }];
    }),
  );
}

/** Those that hold every word of a search, in path, summary or wire, by wire. */
export function grouped(operations: Listed[], search: string): Group[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = new Map<string, Listed[]>();
  for (const one of operations) {
    const text = `${one.method} ${one.path} ${one.summary} ${one.tag}`.toLowerCase();
    if (!words.every((word) => text.includes(word))) continue;
    const group = groups.get(one.tag);
    if (group) group.push(one);
    else groups.set(one.tag, [one]);
  }
  return [...groups].map(([tag, found]) => ({ tag, operations: found }));
}

/** Statuses whose answers look the same, together: errors are all alike. */
export function groupedStatuses(operation: OperationOf): { statuses: string[]; description: string; content: [string, object][] }[] {
  const groups = new Map<string, { statuses: string[]; description: string; content: [string, object][] }>();
  for (const [status, answer] of Object.entries(operation.responses ?? {})) {
    const same = JSON.stringify([answer.description, answer.content]);
    const group = groups.get(same);
    if (group) group.statuses.push(status);
    else groups.set(same, { statuses: [status], description: answer.description ?? "", content: Object.entries(answer.content ?? {}) });
  }
  return [...groups.values()];
}
