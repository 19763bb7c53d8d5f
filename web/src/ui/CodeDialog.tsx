// The next request as code, for every wire and language.

import { signal } from "@preact/signals";
import { fieldsByPath } from "../api/parameters";
import { requestBody } from "../chat/body";
import { thread } from "../chat/store";
import { branch } from "../chat/tree";
import { HIGHLIGHTED, type Language, LANGUAGES, sample, type Wire, WIRES } from "../code/samples";
import { Choice } from "./Choice";
import { CodeBlock } from "./CodeBlock";
import { draft } from "./Composer";
import { Dialog } from "./Dialog";
import type { Message } from "../chat/types";

const wire = signal<Wire>("openai");
const language = signal<Language>("curl");

export function CodeDialog() {
  const body = requestBody(thread.value, asked());
  const { code, omitted } = sample(body, wire.value, language.value, location.origin, fieldsByPath.value);
  return (
    <Dialog title="View code" class="wide">
      <div class="row choices">
        <Choice label="Wire" names={WIRES} chosen={wire.value} choose={(one) => (wire.value = one)} />
        <Choice label="Language" names={LANGUAGES} chosen={language.value} choose={(one) => (language.value = one)} />
      </div>
      <CodeBlock text={code} language={HIGHLIGHTED[language.value]} />
      {omitted.length > 0 && <p class="faint">{WIRES[wire.value]} has no {omitted.join(", ")}: left out.</p>}
    </Dialog>
  );
}

/** Everything up to the question: the last one asked, or the one being written. */
function asked(): Message[] {
  const messages = branch(thread.value);
  if (draft.value.trim() || messages.length === 0) {
    const text = draft.value.trim() || "Why is the sky blue?";
    const parent = thread.value.head;
    return [...messages, { id: "draft", parent, role: "user", text, images: [], calls: [], state: "done", at: 0 }];
  }
  const last = messages.findLastIndex(({ role }) => role !== "assistant");
  return messages.slice(0, last + 1);
}
