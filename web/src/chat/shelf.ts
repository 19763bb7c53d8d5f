// The key's shelf on the server: what is written is kept in this browser until the server has it, so
// nothing is lost while it doesn't answer. What it refuses goes back to this browser for good.

import { signal } from "@preact/signals";
import { deleteKept, isPassing, type Kept, problemIn, readKept, writeKept } from "../api/conversations";
import { merged } from "./merge";
import { allWaiting, deleteWaiting, putWaiting, type Waiting } from "./storage";
import type { Conversation } from "./types";

const SEND_AFTER_MS = 1000; // typing and sliders make many changes
const RETRY_MS = 2000;
const MAX_RETRY_MS = 60_000;
const MAX_TRIES = 4; // to bring together what others change meanwhile

/** How many changes the server doesn't have yet. */
export const numWaiting = signal(0);
/** Whether the last try to reach the server failed. */
export const isGone = signal(false);

interface Listener {
  changed(conversation: Conversation): void; // by somebody else, and brought together with ours
  refused(conversation: Conversation, why: string): void;
}

export class Shelf {
  private readonly waiting = new Map<string, Waiting>();
  private readonly versions = new Map<string, number>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private isSending = false;
  private isClosed = false;
  private retryMs = RETRY_MS;

  constructor(private readonly mark: string, private readonly listener: Listener) {}

  /** Take up what an earlier tab couldn't send; gives those that aren't to be deleted. */
  async open(): Promise<Conversation[]> {
    for (const one of await allWaiting(this.mark)) if (!this.waiting.has(one.id)) this.waiting.set(one.id, one);
    this.count();
    if (this.waiting.size) this.sendSoon();
    return [...this.waiting.values()].flatMap(({ conversation }) => conversation ?? []);
  }

  /** Send nothing any more; what waits does so in the browser. */
  close(): void {
    this.isClosed = true;
    clearTimeout(this.timer);
    numWaiting.value = 0;
    isGone.value = false;
  }

  /** Give back what waits, for somebody else to keep. */
  async giveUp(): Promise<Conversation[]> {
    this.close();
    const left = [...this.waiting.values()];
    this.waiting.clear();
    for (const one of left) await deleteWaiting(one);
    return left.flatMap(({ conversation }) => conversation ?? []);
  }

  isWaiting(id: string): boolean {
    return this.waiting.has(id);
  }

  isDeleting(id: string): boolean {
    return this.waiting.get(id)?.conversation === null;
  }

  async keep(conversation: Conversation): Promise<void> {
    await this.wait(conversation.id, conversation);
  }

  async forget(id: string): Promise<void> {
    await this.wait(id, null);
  }

  /** Read a conversation: ours, while the server doesn't have it yet. */
  async read(id: string): Promise<Conversation> {
    const own = this.waiting.get(id)?.conversation;
    if (own) return own;
    const { conversation, version } = await readKept(id);
    this.versions.set(id, version);
    return conversation;
  }

  sendSoon(afterMs = SEND_AFTER_MS): void {
    clearTimeout(this.timer);
    if (!this.isClosed) this.timer = setTimeout(() => void this.send(), afterMs);
  }

  private async wait(id: string, conversation: Conversation | null): Promise<void> {
    const version = this.waiting.get(id)?.version ?? this.versions.get(id) ?? 0;
    const one = { name: `${this.mark}/${id}`, mark: this.mark, id, conversation, version };
    this.waiting.set(id, one);
    this.count();
    await putWaiting(one);
    this.sendSoon(isGone.value ? this.retryMs : SEND_AFTER_MS);
  }

  private async send(): Promise<void> {
    if (this.isSending || this.isClosed) return;
    this.isSending = true;
    try {
      const isReached = await this.sendAll();
      if (this.isClosed) return;
      isGone.value = !isReached;
      if (this.waiting.size) this.sendSoon(isReached ? SEND_AFTER_MS : this.retryMs);
      this.retryMs = isReached ? RETRY_MS : Math.min(2 * this.retryMs, MAX_RETRY_MS);
    } finally {
      this.isSending = false;
    }
  }

  /** Send what waits; one that the server fails at doesn't hold up the others. */
  private async sendAll(): Promise<boolean> {
    let isReached = true;
    for (const one of [...this.waiting.values()]) {
      if (this.isClosed) return false;
      try {
        await this.sendOne(one);
      } catch (error) {
        if (!isPassing(error)) throw error;
        isReached = false;
        if (problemIn(error)?.kind === "offline") break;
      }
    }
    return isReached;
  }

  private async sendOne(one: Waiting): Promise<void> {
    const { id, conversation } = one;
    try {
      if (conversation) await this.write(conversation, one.version);
      else await deleteKept(id);
    } catch (error) {
      if (isPassing(error)) throw error;
      await this.done(one);
      if (conversation) this.listener.refused(conversation, problemIn(error)?.detail ?? String(error));
      return;
    }
    if (!conversation) this.versions.delete(id);
    await this.done(one);
  }

  private async write(conversation: Conversation, version: number): Promise<void> {
    const { id } = conversation;
    let [mine, base] = [conversation, version];
    for (let tries = 1; ; tries++) {
      try {
        this.versions.set(id, await writeKept(mine, base));
        break;
      } catch (error) {
        if (problemIn(error)?.status !== 409 || tries === MAX_TRIES) throw error;
      }
      const theirs = await this.theirs(id);
      mine = theirs ? merged(theirs.conversation, conversation) : conversation;
      base = theirs?.version ?? 0;
    }
    if (mine !== conversation) this.listener.changed(mine);
  }

  /** What the server has; null if it was deleted meanwhile. */
  private async theirs(id: string): Promise<Kept | null> {
    try {
      return await readKept(id);
    } catch (error) {
      if (problemIn(error)?.status === 404) return null;
      throw error;
    }
  }

  /** Forget a change that was sent, unless there is a newer one, which was made from it. */
  private async done(one: Waiting): Promise<void> {
    const now = this.waiting.get(one.id);
    if (now === one) {
      this.waiting.delete(one.id);
      await deleteWaiting(one);
    } else if (now) {
      const next = { ...now, version: this.versions.get(one.id) ?? 0 };
      this.waiting.set(one.id, next);
      await putWaiting(next);
    }
    this.count();
  }

  private count(): void {
    if (!this.isClosed) numWaiting.value = this.waiting.size;
  }
}
