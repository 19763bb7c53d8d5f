// What a section shows: loaded with the management key, and again and again while somebody looks.
// The last answer stays when a later one fails, beside what went wrong.

import { useEffect, useRef, useState } from "preact/hooks";
import { type Problem, ProblemError } from "../api/problems";
import { keyInUse, manage } from "./access";

export interface Managed<T> {
  data: T | null;
  problem: Problem | null;
  reload: () => void;
}

/** Load JSON, every so many milliseconds (0: once); `null` loads nothing. */
export function useManaged<T>(path: string | null, everyMs = 0): Managed<T> {
  const [data, setData] = useState<T | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [round, setRound] = useState(0);
  const loaded = useRef("");
  const key = keyInUse();
  useEffect(() => {
    if (path === null) return;
    const stopper = new AbortController();
    if (loaded.current !== `${path} ${key}`) setData(null); // another question
    loaded.current = `${path} ${key}`;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const load = async () => {
      try {
        if (!document.hidden || round === 0) setData(await manage<T>("GET", path, undefined, stopper.signal));
        setProblem(null);
      } catch (error) {
        if (stopper.signal.aborted) return;
        setProblem(problemIn(error));
      }
      if (everyMs && !stopper.signal.aborted) timer = setTimeout(() => void load(), everyMs);
    };
    void load();
    return () => {
      clearTimeout(timer);
      stopper.abort();
    };
  }, [path, key, everyMs, round]);
  return { data, problem, reload: () => setRound((number) => number + 1) };
}

export function problemIn(error: unknown): Problem {
  return error instanceof ProblemError ? error.problem : { kind: "server", title: "The page failed", detail: String(error) };
}
