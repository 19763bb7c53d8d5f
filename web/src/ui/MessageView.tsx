// One message: a question, an answer or a tool's result, with its branches and what can be done.

import { useState } from "preact/hooks";
import { askAgain, goOn, type Live, regenerate, running } from "../chat/send";
import { changeThread } from "../chat/store";
import { showing, without } from "../chat/tree";
import type { Message } from "../chat/types";
import { CallCards } from "./CallCards";
import { Facts } from "./Facts";
import { IconButton } from "./icons";
import { Markdown } from "./Markdown";
import { memo } from "./memo";
import { ProblemCard } from "./ProblemCard";
import { Remedy } from "./Remedy";
import { copy, editing } from "./state";
import { TokenView } from "./TokenView";

interface Properties {
  message: Message;
  index: number; // of the thread
  siblings: string; // ids, joined so that equal lists are equal properties
  isLast: boolean;
}

export const MessageView = memo(function MessageView(properties: Properties) {
  const { message } = properties;
  if (message.role === "user") return <Question {...properties} />;
  if (message.role === "tool") return <ToolResult {...properties} />;
  return <Answer {...properties} />;
});

function Question({ message, index, siblings }: Properties) {
  const isEditing = editing.value === message.id;
  return (
    <article class="message question" aria-label="You">
      {message.images.length > 0 && (
        <div class="pictures">
          {message.images.map((image) => <img key={image.url} src={image.url} alt={image.name} />)}
        </div>
      )}
      {isEditing ? <Editor message={message} index={index} /> : <p class="asked">{message.text}</p>}
      {!isEditing && (
        <Tools hasBranches={siblings.includes(" ")}>
          <Branches id={message.id} siblings={siblings} index={index} />
          <IconButton icon="edit" label="Edit" onClick={() => (editing.value = message.id)} />
          <IconButton icon="copy" label="Copy" onClick={() => copy(message.text)} />
          <IconButton icon="trash" label="Delete from here on" onClick={() => remove(index, message.id)} />
        </Tools>
      )}
    </article>
  );
}

function Editor({ message, index }: { message: Message; index: number }) {
  const [text, setText] = useState(message.text);
  const send = () => {
    editing.value = null;
    if (text.trim()) askAgain(index, message, text);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      editing.value = null;
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  };
  return (
    <div class="editor">
      <textarea
        aria-label="Edit the message" rows={Math.min(12, text.split("\n").length + 1)} value={text}
        ref={(element) => { if (element && document.activeElement !== element) element.focus(); }}
        onInput={(event) => setText(event.currentTarget.value)} onKeyDown={onKeyDown}
      />
      <div class="row">
        <button type="button" class="primary" onClick={send}>Ask again</button>
        <button type="button" onClick={() => (editing.value = null)}>Cancel</button>
      </div>
    </div>
  );
}

function ToolResult({ message }: Properties) {
  return (
    <article class="message result" aria-label="Tool result">
      <span class="label">Tool result</span>
      <pre tabIndex={0}>{message.text}</pre>
    </article>
  );
}

function Answer({ message, index, siblings, isLast }: Properties) {
  const [isTokenView, setTokenView] = useState(false);
  const live = running.value.get(message.id)?.live.value;
  const shown: Live = live ?? { text: message.text, calls: message.calls, tokens: message.tokens ?? [] };
  const isGrowing = live !== undefined;
  const isEmpty = !shown.text && shown.calls.length === 0;
  return (
    <article class="message answer" aria-label="Answer" aria-busy={isGrowing}>
      {isGrowing && isEmpty && <p class="waiting" role="status"><i /><i /><i /><span class="hidden">Waiting for the first token</span></p>}
      {isTokenView && shown.tokens.length > 0
        ? <TokenView tokens={shown.tokens} />
        : shown.text && <Markdown text={shown.text} isGrowing={isGrowing} />}
      {shown.calls.length > 0 && (
        <CallCards message={message} calls={shown.calls} index={index} isOpen={isLast && message.state === "done"} />
      )}
      {!isGrowing && <Ending message={message} index={index} />}
      {!isGrowing && message.facts && <Facts facts={message.facts} />}
      {!isGrowing && (
        <Tools>
          <Branches id={message.id} siblings={siblings} index={index} />
          <IconButton icon="copy" label="Copy" onClick={() => copy(message.text)} />
          <IconButton icon="again" label="Answer again" onClick={() => regenerate(index, message)} />
          {shown.tokens.length > 0 && (
            <IconButton icon="tokens" label="Show tokens" pressed={isTokenView} onClick={() => setTokenView(!isTokenView)} />
          )}
          <IconButton icon="trash" label="Delete from here on" onClick={() => remove(index, message.id)} />
        </Tools>
      )}
    </article>
  );
}

function Ending({ message, index }: { message: Message; index: number }) {
  const again = <button type="button" class="primary" onClick={() => regenerate(index, message)}>Try again</button>;
  const onward = message.text && message.calls.length === 0
    ? <button type="button" onClick={() => goOn(index, message)}>Go on</button> : null;
  if (message.problem) return <ProblemCard problem={message.problem}>{again}{onward}<Remedy problem={message.problem} /></ProblemCard>;
  if (message.state === "stopped") return <p class="ending">Stopped. {onward}</p>;
  if (message.facts?.finish === "length") return <p class="ending">Ended at the limit of tokens. {onward}</p>;
  if (message.facts?.finish === "content_filter") return <p class="ending">Ended by a filter of the provider.</p>;
  if (!message.text && message.calls.length === 0) return <p class="ending">The model gave an empty answer.</p>;
  return null;
}

function Tools({ children, hasBranches = false }: { children: preact.ComponentChildren; hasBranches?: boolean }) {
  return <div class={hasBranches ? "tools has-branches" : "tools"}>{children}</div>;
}

function Branches({ id, siblings, index }: { id: string; siblings: string; index: number }) {
  const ids = siblings.split(" ");
  if (ids.length < 2) return null;
  const at = ids.indexOf(id);
  const go = (step: number) => {
    const next = ids[at + step];
    if (next) changeThread(index, (thread) => showing(thread, next));
  };
  return (
    <span class="branches" role="group" aria-label="Alternatives">
      <IconButton icon="left" label="Previous alternative" disabled={at === 0} onClick={() => go(-1)} />
      <span>{at + 1} / {ids.length}</span>
      <IconButton icon="right" label="Next alternative" disabled={at === ids.length - 1} onClick={() => go(1)} />
    </span>
  );
}

function remove(index: number, id: string): void {
  running.value.get(id)?.stopper.abort();
  changeThread(index, (thread) => without(thread, id));
}
