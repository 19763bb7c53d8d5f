// A dialog that keeps the focus inside and closes with Escape: the browser's own.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { IconButton } from "./icons";
import { open } from "./state";

interface Properties {
  title: string;
  children: ComponentChildren;
  class?: string;
  onClose?: () => void; // else the dialog is the one that `open` names
}

export function Dialog({ title, children, class: name = "", onClose }: Properties) {
  const element = useRef<HTMLDialogElement>(null);
  const isThere = useRef(true);
  useEffect(() => {
    const dialog = element.current!;
    dialog.showModal();
    return () => {
      isThere.current = false; // its event comes later, and would close the dialog after it
      dialog.close();
    };
  }, []);
  const close = () => {
    if (!isThere.current) return;
    if (onClose) onClose();
    else open.value = "none";
  };
  return (
    <dialog
      ref={element} class={name} aria-label={title} onClose={close}
      onClick={(event) => event.target === element.current && close()}
    >
      <div class="dialog-body">
        <header><h2>{title}</h2><IconButton icon="close" label="Close" onClick={close} /></header>
        {children}
      </div>
    </dialog>
  );
}
