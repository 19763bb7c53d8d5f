// One thread: its messages, kept scrolled to the end while the reader is there.

import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { models } from "../api/models";
import { activeThread, changeSettings, conversation, removeThread } from "../chat/store";
import { branch, childrenOf } from "../chat/tree";
import type { Thread } from "../chat/types";
import { IconButton } from "./icons";
import { MessageView } from "./MessageView";
import { ModelPicker } from "./ModelPicker";
import { isSettingsOpen } from "./state";

const NEAR_END_PX = 80;

export function ThreadView({ thread, index, isAlone }: { thread: Thread; index: number; isAlone: boolean }) {
  const messages = branch(thread);
  const siblings = useMemo(() => childrenOf(thread), [thread.messages]);
  const { scroller, content, isAtEnd, toEnd } = useFollowing(conversation.value.id);
  return (
    <section class="thread" aria-label={isAlone ? "Conversation" : `Conversation ${index + 1}, ${thread.model}`}>
      {!isAlone && <PaneHeader thread={thread} index={index} />}
      <div class="scroller" ref={scroller} tabIndex={-1}>
        <div class="column" ref={content}>
          {messages.length === 0 && <Welcome isAlone={isAlone} />}
          {messages.map((message, at) => (
            <MessageView
              key={message.id} message={message} index={index} isLast={at === messages.length - 1}
              siblings={(siblings.get(message.parent) ?? []).join(" ")}
            />
          ))}
        </div>
      </div>
      {!isAtEnd && <IconButton icon="down" label="To the end" class="to-end" onClick={toEnd} />}
    </section>
  );
}

function PaneHeader({ thread, index }: { thread: Thread; index: number }) {
  const choose = () => {
    activeThread.value = index;
    isSettingsOpen.value = true;
  };
  return (
    <header class="pane-header" data-active={activeThread.value === index}>
      <ModelPicker label={`Model of pane ${index + 1}`} value={thread.model} onChange={(model) => changeSettings({ model }, index)} />
      <IconButton icon="sliders" label={`Settings of pane ${index + 1}`} onClick={choose} />
      <IconButton icon="close" label={`Close pane ${index + 1}`} onClick={() => removeThread(index)} />
    </header>
  );
}

function Welcome({ isAlone }: { isAlone: boolean }) {
  const name = conversation.value.threads.map(({ model }) => model).filter(Boolean);
  const served = models.value.length;
  return (
    <div class="welcome">
      <h1>{isAlone ? "What shall we look at?" : "One question, several answers."}</h1>
      <p>
        {name[0] ? <>You are talking to <code>{name[0]}</code>, served from this machine’s Outrider. </> : null}
        {served > 1 ? `${served} models are here. ` : null}
        What you write stays between this browser and that server.
      </p>
    </div>
  );
}

/** Follow the end of the content as it grows, until the reader scrolls away from it. */
function useFollowing(conversationId: string) {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const [isAtEnd, setAtEnd] = useState(true);
  const follows = useRef(true);
  const toEnd = () => {
    follows.current = true;
    scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
  };
  useLayoutEffect(() => {
    const element = scroller.current!;
    const onScroll = () => {
      follows.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_END_PX;
      setAtEnd(follows.current);
    };
    const observer = new ResizeObserver(() => {
      if (follows.current) element.scrollTop = element.scrollHeight;
      else onScroll();
    });
    observer.observe(content.current!);
    observer.observe(element);
    element.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", onScroll);
    };
  }, []);
  useLayoutEffect(toEnd, [conversationId]);
  return { scroller, content, isAtEnd, toEnd };
}
