// Where a person writes. What is typed is nobody else's state, so a key press draws this and nothing
// more, however long the chat is.

import { effect, signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { tilesOf } from "../api/image-tiles";
import { modelsById, readsImages } from "../api/models";
import { imageCost, readImage } from "../chat/images";
import { ask, running, stopAll } from "../chat/send";
import { conversation, thread } from "../chat/store";
import { branch } from "../chat/tree";
import type { Image } from "../chat/types";
import { ContextMeter } from "./ContextMeter";
import { count } from "./format";
import { Icon, IconButton } from "./icons";
import { editing, tell } from "./state";

const DRAFT = "outrider.draft"; // of this tab: a reload must not take what was typed

export const draft = signal(sessionStorage.getItem(DRAFT) ?? "");
const pictures = signal<Image[]>([]);

effect(() => sessionStorage.setItem(DRAFT, draft.value));

export function Composer() {
  const field = useRef<HTMLTextAreaElement>(null);
  const isRunning = [...running.value.values()].some((one) => one.conversation === conversation.value.id);
  useEffect(() => fit(field.current!), [draft.value]);
  useEffect(() => field.current?.focus(), [conversation.value.id]);
  const send = () => {
    if (isRunning || (!draft.value.trim() && pictures.value.length === 0)) return;
    ask(draft.value.trim(), pictures.value);
    draft.value = "";
    pictures.value = [];
  };
  return (
    <form
      class="composer" aria-label="Message" onSubmit={(event) => { event.preventDefault(); send(); }}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => { event.preventDefault(); void attach(event.dataTransfer?.files); }}
    >
      <Attached />
      <textarea
        ref={field} rows={1} aria-label="Your message" placeholder="Write a message"
        value={draft.value} onInput={(event) => (draft.value = event.currentTarget.value)}
        onPaste={(event) => void attach(event.clipboardData?.files)}
        onKeyDown={(event) => onKeyDown(event, send)}
      />
      <div class="row">
        <Attach />
        <ContextMeter draft={draft.value} pictures={pictures.value} />
        {isRunning
          ? <button type="button" class="send" aria-label="Stop" title="Stop (Esc)" onClick={stopAll}><Icon name="stop" /></button>
          : <button type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled={!draft.value.trim() && pictures.value.length === 0}><Icon name="send" /></button>}
      </div>
    </form>
  );
}

function onKeyDown(event: KeyboardEvent, send: () => void): void {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  } else if (event.key === "ArrowUp" && !draft.value) {
    const last = branch(conversation.value.threads[0]!).findLast(({ role }) => role === "user");
    if (!last) return;
    event.preventDefault();
    editing.value = last.id;
  }
}

// Measuring lays out the page at every key, so it is left to the browser where that can do it.
const FITS_BY_ITSELF = CSS.supports("field-sizing", "content");

function fit(field: HTMLTextAreaElement): void {
  if (FITS_BY_ITSELF) return;
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, window.innerHeight * 0.4)}px`;
}

/** Why pictures can't be sent; null while they can. */
function whyNoPictures(): string | null {
  const blind = conversation.value.threads.find(({ model }) => !readsImages(modelsById.value.get(model)));
  return blind ? `${blind.model || "The model"} reads text only` : null;
}

function Attach() {
  const input = useRef<HTMLInputElement>(null);
  const reason = whyNoPictures();
  return (
    <>
      <input
        ref={input} type="file" accept="image/png,image/jpeg,image/webp,image/gif" multiple hidden
        onChange={(event) => { void attach(event.currentTarget.files); event.currentTarget.value = ""; }}
      />
      <IconButton icon="image" label={reason ? `Attach a picture: ${reason}` : "Attach a picture"} disabled={reason !== null} onClick={() => input.current?.click()} />
    </>
  );
}

async function attach(files: FileList | null | undefined): Promise<void> {
  if (!files?.length) return;
  const reason = whyNoPictures();
  if (reason) return tell(reason);
  for (const file of [...files]) {
    try {
      pictures.value = [...pictures.value, await readImage(file)];
    } catch (error) {
      tell((error as Error).message);
    }
  }
}

function Attached() {
  if (pictures.value.length === 0) return null;
  return (
    <ul class="attached" aria-label="Attached pictures">
      {pictures.value.map((image) => (
        <li key={image.url}>
          <img src={image.url} alt={image.name} />
          <span>{image.width} × {image.height}<br /><span class="faint">{cost(image)}</span></span>
          <IconButton icon="close" label={`Remove ${image.name}`} onClick={() => (pictures.value = pictures.value.filter((one) => one !== image))} />
        </li>
      ))}
    </ul>
  );
}

function cost({ width, height }: Image): string {
  const cut = tilesOf(thread.value.model);
  if (!cut) return "tokens: not known here";
  const { tiles, tokens } = imageCost(width, height, cut);
  return `${tiles} ${tiles > 1 ? "tiles" : "tile"}, ${count(tokens)} tokens`;
}
