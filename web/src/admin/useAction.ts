// Something that is done to the server by a button: busy while it runs, with its problem if it fails.

import { useState } from "preact/hooks";
import type { Problem } from "../api/problems";
import { problemIn } from "./useManaged";

export interface Action {
  isBusy: boolean;
  problem: Problem | null;
  /** Do it; gives whether it worked. */
  run: (work: () => Promise<unknown>) => Promise<boolean>;
}

export function useAction(): Action {
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const run = async (work: () => Promise<unknown>) => {
    setBusy(true);
    setProblem(null);
    try {
      await work();
      return true;
    } catch (error) {
      setProblem(problemIn(error));
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { isBusy, problem, run };
}
