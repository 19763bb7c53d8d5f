// Asks before something that can't be taken back, and says what it does.

import type { ComponentChildren } from "preact";
import { ProblemCard } from "../ui/ProblemCard";
import { Dialog } from "../ui/Dialog";
import { useAction } from "./useAction";

interface Properties {
  title: string;
  action: string; // what the button says
  children: ComponentChildren; // what it does
  work: () => Promise<unknown>;
  onClose: () => void;
}

export function Confirm({ title, action, children, work, onClose }: Properties) {
  const { isBusy, problem, run } = useAction();
  const confirm = async () => {
    if (await run(work)) onClose();
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <div class="confirm">{children}</div>
      {problem && <ProblemCard problem={problem} />}
      <div class="row">
        <button type="button" class="danger" disabled={isBusy} onClick={() => void confirm()}>{action}</button>
        <button type="button" onClick={onClose}>Keep it as it is</button>
      </div>
    </Dialog>
  );
}
