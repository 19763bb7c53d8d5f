import { expect, test } from "vitest";
import { merged } from "./merge";
import { type Conversation, emptySettings, type Message, newConversation } from "./types";

function message(id: string, fields: Partial<Message> = {}): Message {
  return { id, parent: null, role: "user", text: id, images: [], calls: [], state: "done", at: 1, ...fields };
}

function talk(updated: number, ...messages: Message[]): Conversation {
  const made = newConversation(emptySettings("m"));
  const [thread] = made.threads;
  const tree = Object.fromEntries(messages.map((one) => [one.id, one]));
  return { ...made, id: "c", updated, threads: [{ ...thread!, messages: tree, head: messages.at(-1)?.id ?? null }] };
}

test("messages of both sides are there, and mine are shown", () => {
  const both = merged(talk(5, message("a"), message("theirs")), talk(3, message("a"), message("mine")));
  expect(Object.keys(both.threads[0]!.messages).sort()).toEqual(["a", "mine", "theirs"]);
  expect([both.threads[0]!.head, both.updated]).toEqual(["mine", 5]);
});

test("an answer that is complete on one side isn't replaced by its beginning", () => {
  const whole = message("a", { text: "whole" });
  const cut = message("a", { text: "who", state: "stopped" });
  for (const [theirs, mine] of [[whole, cut], [cut, whole]] as const) {
    expect(merged(talk(1, theirs), talk(1, mine)).threads[0]!.messages.a).toEqual(whole);
  }
});

test("panes that only one side has stay", () => {
  const one = talk(1, message("a"));
  const two = { ...one, threads: [...one.threads, ...talk(1, message("b")).threads] };
  for (const both of [merged(one, two), merged(two, one)]) expect(both.threads.length).toBe(2);
});
