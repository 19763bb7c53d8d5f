// A JSON Schema that answers are held to. What isn't JSON is said while it is typed; whether the
// server can enforce it, by asking the server for one token, so that its own words are shown.

import { useEffect, useState } from "preact/hooks";
import { streamChat } from "../api/chat";
import { type Problem, ProblemError } from "../api/problems";
import { parsed } from "../chat/body";
import { changeSettings, thread } from "../chat/store";

const CHECK_AFTER_MS = 600;
const EXAMPLE = JSON.stringify(
  {
    type: "object",
    properties: { name: { type: "string" }, year: { type: "integer" } },
    required: ["name", "year"],
    additionalProperties: false,
  },
  null, 2,
);

type Verdict = { state: "unchecked" | "checking" | "accepted" } | { state: "refused"; problem: Problem };

export function SchemaEditor() {
  const { schema, isSchemaOn, model } = thread.value;
  const { value, mistake } = parsed<object>(schema);
  const verdict = useVerdict(isSchemaOn && !mistake ? value : null, model, schema);
  return (
    <>
      <label class="check">
        <input type="checkbox" checked={isSchemaOn} onChange={(event) => changeSettings({ isSchemaOn: event.currentTarget.checked })} />
        Hold answers to this schema
      </label>
      <label class="field">
        <span>JSON Schema</span>
        <textarea
          class="mono" rows={9} value={schema} spellcheck={false} placeholder={EXAMPLE}
          aria-invalid={mistake !== null || verdict.state === "refused"}
          onInput={(event) => changeSettings({ schema: event.currentTarget.value })}
        />
      </label>
      {mistake ? <p class="mistake" role="status">{mistake}</p> : <Said verdict={verdict} />}
      {!schema.trim() && (
        <button type="button" class="quiet" onClick={() => changeSettings({ schema: EXAMPLE, isSchemaOn: true })}>Put in an example</button>
      )}
    </>
  );
}

function Said({ verdict }: { verdict: Verdict }) {
  if (verdict.state === "refused") {
    const { detail, path } = verdict.problem;
    return <p class="mistake" role="status">{path && <code>{path}</code>} {detail}</p>;
  }
  const words = { unchecked: "", checking: "The server is looking at it …", accepted: "The server accepts it." };
  return <p class="faint" role="status">{words[verdict.state]}</p>;
}

function useVerdict(schema: object | null, model: string, text: string): Verdict {
  const [verdict, setVerdict] = useState<Verdict>({ state: "unchecked" });
  useEffect(() => {
    if (!schema || !model) return setVerdict({ state: "unchecked" });
    const stopper = new AbortController();
    const timer = setTimeout(() => {
      setVerdict({ state: "checking" });
      void check(schema, model, stopper.signal).then((said) => stopper.signal.aborted || setVerdict(said));
    }, CHECK_AFTER_MS);
    return () => {
      clearTimeout(timer);
      stopper.abort();
    };
  }, [text, model, schema === null]);
  return verdict;
}

async function check(schema: object, model: string, signal: AbortSignal): Promise<Verdict> {
  const response_format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
  const messages = [{ role: "user", content: "{}" }];
  try {
    const pieces = streamChat({ model, messages, response_format, max_tokens: 1, stream: true }, signal);
    for await (const piece of pieces) if (piece.kind === "finish") break;
    return { state: "accepted" };
  } catch (error) {
    if (!(error instanceof ProblemError)) return { state: "unchecked" };
    return { state: "refused", problem: error.problem };
  }
}
