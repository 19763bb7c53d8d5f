import { expect, test } from "vitest";
import { branch, showing, without, withMessage } from "./tree";
import { emptySettings, type Message, newThread, type Thread } from "./types";

function message(id: string, parent: string | null, at: number): Message {
  return { id, parent, role: "user", text: id, images: [], calls: [], state: "done", at };
}

function threadOf(...links: [string, string | null][]): Thread {
  return links.reduce((thread, [id, parent], at) => withMessage(thread, message(id, parent, at)), newThread(emptySettings()));
}

const shown = (thread: Thread) => branch(thread).map(({ id }) => id).join("");

test("the shown branch leads from the first message to the head", () => {
  const thread = threadOf(["a", null], ["b", "a"], ["c", "b"], ["d", "b"]);
  expect(shown(thread)).toBe("abd");
  expect(shown(showing(thread, "c"))).toBe("abc");
});

test("showing a message shows the newest leaf behind it", () => {
  const thread = threadOf(["a", null], ["b", "a"], ["c", "b"], ["d", "b"], ["e", "a"]);
  expect(shown(thread)).toBe("ae");
  expect(shown(showing(thread, "b"))).toBe("abd");
});

test("deleting takes what stands behind along, and shows a sibling if there is one", () => {
  const thread = threadOf(["a", null], ["b", "a"], ["c", "b"], ["d", "a"]);
  const rest = without(thread, "d");
  expect(shown(rest)).toBe("abc");
  expect(Object.keys(without(rest, "b").messages)).toEqual(["a"]);
  expect(shown(without(rest, "a"))).toBe("");
});

test("a circle in an imported file ends", () => {
  const thread = threadOf(["a", "b"], ["b", "a"]);
  expect(branch(thread).length).toBeGreaterThan(0);
});
