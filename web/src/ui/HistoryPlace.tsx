// Says where the history is kept, what isn't there yet, and asks once before it moves anything from
// this browser to the server.

import { signal } from "@preact/signals";
import { apiKey } from "../api/key";
import { history, markOf, moveToServer, refusal, where } from "../chat/places";
import { isGone, numWaiting } from "../chat/shelf";

const ASKED = "outrider.moving-asked"; // marks of keys whose owner has answered

const asked = signal<string[]>(readAsked());

export function HistoryPlace() {
  return (
    <div class="place">
      <p class="faint" role="status">{words()}</p>
      <Offer />
    </div>
  );
}

function words(): string {
  if (where.value === "browser") return refusal.value ? `Kept in this browser only. ${refusal.value}` : "Kept in this browser only.";
  if (isGone.value) return "The server doesn't answer. What you write is kept in this browser and sent when it is back.";
  const waiting = numWaiting.value;
  return `New chats are kept on the server, for this key alone.${waiting ? ` ${waiting} not sent yet.` : ""}`;
}

function Offer() {
  const here = history.value.filter(({ place }) => place === "browser").length;
  if (where.value === "browser" || isGone.value || here === 0) return null;
  const move = () => {
    answer();
    void moveToServer();
  };
  if (asked.value.includes(markOf(apiKey.value))) {
    return <button type="button" class="quiet" onClick={move}>Move {here} from this browser to the server</button>;
  }
  return (
    <div class="offer" role="group" aria-label="Move conversations">
      <p>{here === 1 ? "One conversation is" : `${here} conversations are`} in this browser only. Move {here === 1 ? "it" : "them"} to the server? Who operates it can read what is there.</p>
      <div class="row">
        <button type="button" class="primary" onClick={move}>Move</button>
        <button type="button" onClick={answer}>Leave here</button>
      </div>
    </div>
  );
}

function answer(): void {
  asked.value = [...new Set([...asked.value, markOf(apiKey.value)])];
  localStorage.setItem(ASKED, JSON.stringify(asked.value));
}

function readAsked(): string[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(ASKED) ?? "[]");
    return Array.isArray(stored) ? stored.map(String) : [];
  } catch {
    return [];
  }
}
