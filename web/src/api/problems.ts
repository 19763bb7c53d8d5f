// What can go wrong, in words for a person: a title, what the server said, and what can be done.

export type ProblemKind =
  | "offline" | "cut" | "key" | "budget" | "context" | "image" | "schema" | "model" | "busy"
  | "refused" | "server";

export interface Problem {
  kind: ProblemKind;
  title: string;
  detail: string;
  status?: number; // that the server answered with
  param?: string; // the field of the request that the server named
  path?: string; // where in a schema the refusal points, such as $.properties.a
}

export class ProblemError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.title);
  }
}

export const OFFLINE: Problem = {
  kind: "offline",
  title: "The server doesn't answer",
  detail: "It may have been stopped, or this computer is offline. Nothing you wrote is lost.",
};

export const CUT: Problem = {
  kind: "cut",
  title: "The connection broke off in mid-answer",
  detail: "What had arrived is kept. Go on from there, or ask again.",
};

const TITLES: Record<ProblemKind, string> = {
  offline: OFFLINE.title,
  cut: CUT.title,
  key: "This server wants a key",
  budget: "The key's budget is used up",
  context: "The conversation no longer fits into the model's context",
  image: "An image was refused",
  schema: "The server can't hold an answer to this schema",
  model: "There is no such model here",
  busy: "The server is busy",
  refused: "The server refused the request",
  server: "The server failed",
};

interface WireError {
  code?: number | string | null; // OpenAI's form has the kind of error here, and no metadata
  message?: string;
  param?: string | null;
  metadata?: { error_type?: string; provider_code?: string; param?: string } | null;
}

/** Read an error in OpenRouter's or OpenAI's form, whole or inside of a stream. */
export function problemOf(status: number, error: unknown): Problem {
  const wire = (typeof error === "object" && error !== null ? error : {}) as WireError;
  const message = typeof wire.message === "string" ? wire.message : `HTTP status ${status}`;
  const named = wire.metadata?.param ?? wire.param;
  const param = typeof named === "string" ? named : undefined;
  const code = wire.metadata?.provider_code ?? (typeof wire.code === "string" ? wire.code : undefined);
  const kind = kindOf(status, wire.metadata?.error_type, code, param, message);
  const path = kind === "schema" ? /\$[.\w[\]]*/.exec(message)?.[0] : undefined;
  return { kind, title: TITLES[kind], detail: message, status, param, path };
}

function kindOf(
  status: number, type: string | undefined, code: string | undefined,
  param: string | undefined, message: string,
): ProblemKind {
  if (status === 401 || status === 403) return "key";
  if (status === 402) return "budget";
  if (type === "context_length_exceeded" || code === "context_length_exceeded") return "context";
  if (code === "model_not_found" || param === "model") return "model";
  if (param?.startsWith("response_format")) return "schema";
  if (param?.startsWith("messages[") && / image|pixels|base64|Pillow/i.test(message)) return "image";
  if (status === 413) return "image";
  if (status === 429 || status === 503 || status === 529) return "busy";
  return status >= 500 ? "server" : "refused";
}
