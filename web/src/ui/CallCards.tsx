// The calls of an answer as cards. While they have no results yet, these can be pasted in, and the
// conversation goes on from there.

import { useState } from "preact/hooks";
import { giveResults } from "../chat/send";
import type { Call, Message } from "../chat/types";
import { CodeBlock } from "./CodeBlock";
import { Icon } from "./icons";

interface Properties {
  message: Message;
  calls: Call[];
  index: number; // of the thread
  isOpen: boolean; // waits for results
}

export function CallCards({ message, calls, index, isOpen }: Properties) {
  const [results, setResults] = useState<Map<string, string>>(new Map());
  const send = (event: Event) => {
    event.preventDefault();
    giveResults(index, message, results);
  };
  return (
    <form class="calls" onSubmit={send}>
      {calls.map((call, at) => (
        <section key={at} class="call" aria-label={`Call of ${call.name}`}>
          <h3><Icon name="tool" /> <code>{call.name}</code></h3>
          <CodeBlock text={pretty(call.arguments)} language="json" isGrowing={message.state === "streaming"} />
          {isOpen && (
            <label>
              Result
              <textarea
                rows={2} value={results.get(call.id) ?? ""} placeholder="Paste what the tool gave back"
                onInput={(event) => setResults(new Map(results).set(call.id, event.currentTarget.value))}
              />
            </label>
          )}
        </section>
      ))}
      {isOpen && <button type="submit" class="primary">{calls.length > 1 ? "Give results" : "Give result"}</button>}
    </form>
  );
}

export function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // cut off, or never was JSON: shown as it came
  }
}
