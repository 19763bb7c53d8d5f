// Asks and answers: turns what a person does into messages, and a stream into an answer. A stop
// closes the connection, which frees the engine within a step; what had arrived is kept.

import { signal, type Signal } from "@preact/signals";
import { type CallDelta, type Piece, streamChat, type TokenLogprob } from "../api/chat";
import { type Problem, ProblemError } from "../api/problems";
import { requestBody } from "./body";
import { announcement, changeConversation, changeThread, conversation, rememberAddress, saveNow } from "./store";
import { history } from "./places";
import { branch, changed, withMessage } from "./tree";
import { type Call, type Facts, type Image, type Message, newId, type Thread } from "./types";

// Text is shown at most this often: faster than this nobody reads, and it keeps the tab calm.
const SHOW_EVERY_MS = 60;

export interface Live {
  text: string;
  calls: Call[];
  tokens: TokenLogprob[];
}

interface Running {
  live: Signal<Live>;
  stopper: AbortController;
  conversation: string;
  thread: number;
}

/** The answers that are being written, by message. */
export const running = signal<ReadonlyMap<string, Running>>(new Map());

export function ask(text: string, images: Image[]): void {
  const { id, threads, title } = conversation.value;
  if (!title) changeConversation(id, (old) => ({ ...old, title: titleOf(text, images) }));
  threads.forEach((one, index) => {
    const message = newMessage("user", one.head, { text, images });
    changeThread(index, (old) => withMessage(old, message));
    void answer(index, message.id);
  });
  rememberAddress();
}

/** Answer again, beside the answer that is there. */
export function regenerate(index: number, message: Message): void {
  if (message.parent !== null) void answer(index, message.parent);
}

/** Ask differently, beside the question that is there. */
export function askAgain(index: number, old: Message, text: string): void {
  const message = newMessage("user", old.parent, { text, images: old.images });
  changeThread(index, (thread) => withMessage(thread, message));
  void answer(index, message.id);
}

/** Go on where an answer broke off: OpenRouter's prefill, a last message of the assistant. */
export function goOn(index: number, message: Message): void {
  changeThread(index, (thread) => changed(thread, message.id, { state: "streaming", problem: undefined }));
  const thread = conversation.value.threads[index]!;
  const prefilled = { ...message, calls: [] };
  void write(index, thread, message, [...branch(thread, message.parent), prefilled]);
}

export function giveResults(index: number, message: Message, results: Map<string, string>): void {
  let parent = message.id;
  for (const { id } of message.calls) {
    const result = newMessage("tool", parent, { text: results.get(id) ?? "", callId: id });
    changeThread(index, (thread) => withMessage(thread, result));
    parent = result.id;
  }
  void answer(index, parent);
}

export function stopAll(): void {
  for (const one of running.value.values()) {
    if (one.conversation === conversation.value.id) one.stopper.abort();
  }
}

async function answer(index: number, parent: string): Promise<void> {
  const message = newMessage("assistant", parent, { state: "streaming" });
  changeThread(index, (thread) => withMessage(thread, message));
  const thread = conversation.value.threads[index]!;
  await write(index, thread, message, branch(thread, parent));
}

async function write(index: number, thread: Thread, message: Message, messages: Message[]): Promise<void> {
  const { id: owner } = conversation.value;
  const live = signal<Live>({ text: message.text, calls: message.calls, tokens: message.tokens ?? [] });
  const stopper = new AbortController();
  const entry = { live, stopper, conversation: owner, thread: index };
  running.value = new Map(running.value).set(message.id, entry);
  announcement.value = "The answer begins.";
  const writer = new Writer(thread, live);
  let state: Message["state"] = "done";
  let problem: Problem | undefined;
  try {
    const body = { ...requestBody(thread, messages), stream: true };
    for await (const piece of streamChat(body, stopper.signal)) writer.take(piece);
  } catch (error) {
    state = stopper.signal.aborted ? "stopped" : "failed";
    problem = state === "failed" ? problemFrom(error) : undefined;
  }
  writer.end();
  const changes = { ...live.value, facts: writer.facts(), state, problem };
  changeThread(index, (old) => changed(old, message.id, changes), owner);
  const left = new Map(running.value);
  left.delete(message.id);
  running.value = left;
  announcement.value = problem ? `${problem.title}. ${problem.detail}` : `${words(state)} ${live.value.text}`;
  if (conversation.value.id === owner) saveNow();
}

/** Collects pieces, and shows them now and then. */
class Writer {
  private readonly begin = performance.now();
  private firstTokenMs: number | null = null;
  private provider = "";
  private attempts = "";
  private finish: string | null = null;
  private usage: Facts["usage"] = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly next: Live;

  constructor(private readonly thread: Thread, private readonly live: Signal<Live>) {
    const { text, calls, tokens } = live.value;
    this.next = { text, calls: calls.map((call) => ({ ...call })), tokens: [...tokens] };
  }

  take(piece: Piece): void {
    if (piece.kind === "start") {
      this.provider = piece.provider;
      this.attempts = piece.attempts;
    } else if (piece.kind === "finish") this.finish = piece.reason;
    else if (piece.kind === "usage") this.usage = piece.usage;
    else {
      this.firstTokenMs ??= performance.now();
      if (piece.kind === "text") this.next.text += piece.text;
      else if (piece.kind === "logprobs") this.next.tokens.push(...piece.tokens);
      else for (const delta of piece.calls) addCall(this.next.calls, delta);
      this.timer ??= setTimeout(() => this.show(), SHOW_EVERY_MS);
    }
  }

  end(): void {
    this.show();
  }

  facts(): Facts {
    const { thread, firstTokenMs, begin } = this;
    return {
      model: thread.model,
      provider: this.provider,
      attempts: this.attempts,
      usage: this.usage,
      firstTokenS: firstTokenMs === null ? null : (firstTokenMs - begin) / 1000,
      totalS: (performance.now() - begin) / 1000,
      finish: this.finish,
      parameters: thread.parameters,
    };
  }

  private show(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const { text, calls, tokens } = this.next;
    this.live.value = { text, calls: calls.map((call) => ({ ...call })), tokens: [...tokens] };
  }
}

function addCall(calls: Call[], delta: CallDelta): void {
  const call = (calls[delta.index] ??= { id: "", name: "", arguments: "" });
  call.id ||= delta.id ?? "";
  call.name += delta.function?.name ?? "";
  call.arguments += delta.function?.arguments ?? "";
}

function newMessage(role: Message["role"], parent: string | null, fields: Partial<Message>): Message {
  const base: Message = { id: newId(), parent, role, text: "", images: [], calls: [], state: "done", at: Date.now() };
  // Messages made within one millisecond must still be in order.
  base.at = Math.max(base.at, lastAt + 1);
  lastAt = base.at;
  return { ...base, ...fields };
}

let lastAt = 0;

function problemFrom(error: unknown): Problem {
  if (error instanceof ProblemError) return error.problem;
  const detail = error instanceof Error ? error.message : String(error);
  return { kind: "server", title: "The answer couldn't be read", detail };
}

function words(state: Message["state"]): string {
  return state === "stopped" ? "Stopped." : "The answer is complete:";
}

export function titleOf(text: string, images: Image[]): string {
  const line = text.trim().split("\n")[0]?.slice(0, 80);
  return line || images[0]?.name || "Conversation";
}

/** After a reload nothing runs any more: answers that were being written count as cut off. */
export function settleHistory(): void {
  const isRunning = (id: string) => running.value.has(id);
  for (const { whole: one } of history.value) {
    if (!one) continue;
    const cut = one.threads.some((thread) => unfinished(thread, isRunning).length > 0);
    if (cut) changeConversation(one.id, (old) => ({ ...old, threads: old.threads.map((thread) => settled(thread, isRunning)) }));
  }
}

function unfinished(thread: Thread, isRunning: (id: string) => boolean): Message[] {
  return Object.values(thread.messages).filter(({ id, state }) => state === "streaming" && !isRunning(id));
}

function settled(thread: Thread, isRunning: (id: string) => boolean): Thread {
  return unfinished(thread, isRunning).reduce((old, { id }) => changed(old, id, { state: "stopped" }), thread);
}
