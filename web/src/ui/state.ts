// What is open and how it looks; nothing here is part of a conversation.

import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
export type Open = "none" | "palette" | "code" | "share" | "keys";

export const open = signal<Open>("none");
export const theme = signal<Theme>((localStorage.getItem("outrider.theme") as Theme | null) ?? "system");
/** The panels beside the chat; on a narrow screen they lie above it, so they begin closed. */
export const isHistoryOpen = signal(window.innerWidth >= 1100);
export const isSettingsOpen = signal(window.innerWidth >= 1100);
/** The message being edited. */
export const editing = signal<string | null>(null);
/** A short word about something done, such as a copy. */
export const notice = signal("");

let clearing: ReturnType<typeof setTimeout> | undefined;

export function tell(text: string): void {
  notice.value = text;
  clearTimeout(clearing);
  clearing = setTimeout(() => (notice.value = ""), 2500);
}

export async function copy(text: string, what = "Copied"): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    tell(what);
  } catch {
    tell("The browser didn't allow copying");
  }
}

export function isNarrow(): boolean {
  return window.innerWidth < 900;
}

effect(() => {
  localStorage.setItem("outrider.theme", theme.value);
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
});
