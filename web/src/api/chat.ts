// One streamed answer over OpenRouter's wire, which says who answered and what it cost. Refuses to
// call an answer complete that came without a finish reason.

import { apiKey } from "./key";
import { CUT, OFFLINE, ProblemError, problemOf } from "./problems";
import { eventData } from "./sse";

export const CHAT_PATH = "/api/v1/chat/completions";

export interface Alternative {
  token: string;
  logprob: number;
}

export interface TokenLogprob extends Alternative {
  top_logprobs: Alternative[];
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  cost?: number;
  prompt_tokens_details?: { cached_tokens?: number } | null;
}

export interface CallDelta {
  index: number;
  id?: string;
  function?: { name?: string; arguments?: string };
}

export type Piece =
  | { kind: "start"; provider: string; attempts: string; ignored: string }
  | { kind: "text"; text: string }
  | { kind: "calls"; calls: CallDelta[] }
  | { kind: "logprobs"; tokens: TokenLogprob[] }
  | { kind: "finish"; reason: string }
  | { kind: "usage"; usage: Usage };

interface Chunk {
  provider?: string;
  error?: { code?: number; message?: string };
  usage?: Usage | null;
  choices?: {
    delta?: { content?: string | null; tool_calls?: CallDelta[] };
    logprobs?: { content?: TokenLogprob[] | null } | null;
    finish_reason?: string | null;
  }[];
}

export async function* streamChat(body: object, signal: AbortSignal): AsyncGenerator<Piece> {
  const reply = await post(body, signal);
  const attempts = reply.headers.get("x-outrider-attempts") ?? "";
  const ignored = reply.headers.get("x-outrider-ignored") ?? "";
  yield { kind: "start", provider: "", attempts, ignored };
  let provider = "";
  let isFinished = false;
  try {
    for await (const data of eventData(reply.body!)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data) as Chunk;
      if (chunk.error) throw new ProblemError(problemOf(chunk.error.code ?? 500, chunk.error));
      if (chunk.provider && chunk.provider !== provider) {
        provider = chunk.provider;
        yield { kind: "start", provider, attempts, ignored };
      }
      for (const piece of piecesOf(chunk)) {
        isFinished ||= piece.kind === "finish";
        yield piece;
      }
    }
  } catch (error) {
    if (error instanceof ProblemError || signal.aborted) throw error;
    throw new ProblemError(CUT);
  }
  if (!isFinished && !signal.aborted) throw new ProblemError(CUT);
}

async function post(body: object, signal: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { "content-type": "application/json" };
  if (apiKey.value) headers.authorization = `Bearer ${apiKey.value}`;
  let reply: Response;
  try {
    reply = await fetch(CHAT_PATH, { method: "POST", headers, body: JSON.stringify(body), signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ProblemError(OFFLINE);
  }
  if (reply.ok && reply.body) return reply;
  const answer: unknown = await reply.json().catch(() => null);
  throw new ProblemError(problemOf(reply.status, (answer as { error?: unknown } | null)?.error));
}

function* piecesOf(chunk: Chunk): Generator<Piece> {
  const choice = chunk.choices?.[0];
  const { content, tool_calls: calls } = choice?.delta ?? {};
  if (content) yield { kind: "text", text: content };
  if (calls?.length) yield { kind: "calls", calls };
  if (choice?.logprobs?.content?.length) yield { kind: "logprobs", tokens: choice.logprobs.content };
  if (choice?.finish_reason) yield { kind: "finish", reason: choice.finish_reason };
  if (chunk.usage) yield { kind: "usage", usage: chunk.usage };
}
