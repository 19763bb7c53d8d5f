// The form that sends an operation's request: parameters, a body that begins as a valid example, the
// line for curl, and the answer as it comes.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { bodyProperties, type Document } from "../api/document";
import { apiKey } from "../api/key";
import { CodeBlock } from "../ui/CodeBlock";
import { open } from "../ui/state";
import { exampleBody } from "./example";
import { modelFor } from "./models";
import type { Listed } from "./operations";
import { FormFields, ParameterFields } from "./Fields";
import { addressOf, curlOf, type Prepared, type Replied, send } from "./request";

interface Shown {
  reply: Replied | null;
  text: string;
  problem: string;
  isRunning: boolean;
}

const NOTHING: Shown = { reply: null, text: "", problem: "", isRunning: false };
const SHOW_EVERY_MS = 60;

export function TryIt({ document, listed }: { document: Document; listed: Listed }) {
  const form = useRequest(document, listed);
  const { shown, start, stop } = useSending();
  const { prepared, missing, mistake } = form;
  return (
    <section aria-label="Try it">
      <h2>Try it</h2>
      <form class="try" onSubmit={(event) => { event.preventDefault(); start(prepared); }}>
        <ParameterFields parameters={form.parameters} valueOf={form.valueOf} change={form.setValue} />
        {form.json && <BodyField body={form.body} mistake={mistake} hasStream={"stream" in bodyProperties(document, listed.path)} change={form.setBody} />}
        {form.multipart && <FormFields schema={form.multipart} change={form.setPart} />}
        <div class="row">
          <button type="submit" class="primary" disabled={Boolean(missing || mistake) || shown.isRunning}>Send</button>
          {shown.isRunning && <button type="button" onClick={stop}>Stop</button>}
          {missing && <span class="faint">Fill in {missing} first.</span>}
          <span class="spring" />
          <button type="button" class="quiet" onClick={() => (open.value = "keys")}>{apiKey.value ? "With your key" : "Without a key"}</button>
        </div>
      </form>
      <CodeBlock text={curlOf(prepared, apiKey.value !== "")} language="bash" />
      <Answer shown={shown} />
    </section>
  );
}

/** What is filled in, and the request that comes of it. */
function useRequest(document: Document, { method, path, operation }: Listed) {
  const parameters = operation.parameters ?? [];
  const model = modelFor(path);
  const json = operation.requestBody?.content["application/json"]?.schema;
  const multipart = operation.requestBody?.content["multipart/form-data"]?.schema;
  const [values, setValues] = useState<Record<string, string>>({});
  const [edited, setBody] = useState<string | null>(null);
  const [parts, setParts] = useState<Record<string, string | File>>({});
  const example = useMemo(() => (json ? JSON.stringify(exampleBody(document, json, model), null, 2) : ""), [document, json, model]);
  const body = edited ?? example;
  const valueOf = (name: string) => values[name] ?? (path.includes(`{${name}}`) ? suggested(name, model) : "");
  const of = (place: string) => Object.fromEntries(parameters.filter((one) => one.in === place).map(({ name }) => [name, valueOf(name)]));
  const prepared: Prepared = { method, address: addressOf(path, of("path"), of("query")), body: json ? body : multipart ? dataOf(parts) : null };
  return {
    parameters, json, multipart, body, prepared, valueOf, setBody,
    setValue: (name: string, value: string) => setValues({ ...values, [name]: value }),
    setPart: (name: string, value: string | File) => setParts({ ...parts, [name]: value }),
    missing: parameters.find(({ name, required }) => required && valueOf(name) === "")?.name,
    mistake: json ? mistakeIn(body) : null,
  };
}

function useSending() {
  const [shown, setShown] = useState<Shown>(NOTHING);
  const stopper = useRef<AbortController | null>(null);
  useEffect(() => () => stopper.current?.abort(), []);
  const start = (prepared: Prepared) => {
    const mine = new AbortController();
    stopper.current?.abort();
    stopper.current = mine;
    let latest: Shown = { ...NOTHING, isRunning: true };
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = () => {
      clearTimeout(timer);
      timer = undefined;
      if (stopper.current === mine) setShown(latest);
    };
    show();
    send(prepared, mine.signal, (reply, text) => {
      latest = { ...latest, reply, text };
      timer ??= setTimeout(show, SHOW_EVERY_MS);
    })
      .catch((error: unknown) => (latest = { ...latest, problem: mine.signal.aborted ? "Stopped." : `The server doesn't answer (${String(error)}).` }))
      .finally(() => {
        latest = { ...latest, isRunning: false };
        show();
      });
  };
  return { shown, start, stop: () => stopper.current?.abort() };
}

function BodyField({ body, mistake, hasStream, change }: { body: string; mistake: string | null; hasStream: boolean; change: (body: string) => void }) {
  const isStreamed = mistake === null && /^\{/.test(body) && (JSON.parse(body) as { stream?: unknown }).stream === true;
  const setStream = (stream: boolean) => {
    const { stream: _, ...rest } = JSON.parse(body) as Record<string, unknown>;
    change(JSON.stringify(stream ? { ...rest, stream } : rest, null, 2));
  };
  return (
    <div>
      <label class="try-body">
        <span>Body</span>
        <textarea class="mono" rows={Math.min(18, body.split("\n").length + 1)} spellcheck={false} value={body} aria-invalid={mistake !== null} onInput={(event) => change(event.currentTarget.value)} />
      </label>
      {mistake && <p class="mistake">{mistake}</p>}
      {hasStream && (
        <label class="check"><input type="checkbox" checked={isStreamed} disabled={mistake !== null} onChange={(event) => setStream(event.currentTarget.checked)} /> Stream the answer</label>
      )}
    </div>
  );
}

function Answer({ shown }: { shown: Shown }) {
  const { reply, text, problem, isRunning } = shown;
  if (!reply && !problem) return isRunning ? <p class="faint" role="status">Waiting for the answer …</p> : null;
  return (
    <section class="answered" aria-label="Answer">
      {reply && (
        <p role="status"><strong class="status" data-good={reply.status < 400}>{reply.status}</strong> {isRunning ? "arriving …" : "complete"}</p>
      )}
      {reply && reply.headers.length > 0 && (
        <dl class="headers">{reply.headers.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
      )}
      {problem && <p class="mistake" role="alert">{problem}</p>}
      {text && <CodeBlock text={text} language={reply?.mediaType === "application/json" ? "json" : ""} isGrowing={isRunning} />}
    </section>
  );
}

function mistakeIn(body: string): string | null {
  try {
    JSON.parse(body);
    return null;
  } catch (error) {
    return `Not JSON yet: ${(error as Error).message}`;
  }
}

function suggested(name: string, model: string): string {
  if (name === "model") return model;
  return name === "account_id" ? "local" : ""; // any account will do
}

function dataOf(values: Record<string, string | File>): FormData {
  const data = new FormData();
  for (const [name, value] of Object.entries(values)) if (value !== "") data.append(name, value);
  return data;
}
