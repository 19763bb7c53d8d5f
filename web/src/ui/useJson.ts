// What an address of this server gives, for a component: loaded again when the address or the key
// changes, and the old answer stays while the next one is on its way.

import { useEffect, useState } from "preact/hooks";
import { getJson } from "../api/get";
import { apiKey } from "../api/key";
import { type Problem, ProblemError } from "../api/problems";

export interface Loaded<T> {
  data: T | null;
  problem: Problem | null;
  isLoading: boolean;
  reload: () => void;
}

/** Load JSON; `null` loads nothing. */
export function useJson<T>(path: string | null): Loaded<T> {
  const [data, setData] = useState<T | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isLoading, setLoading] = useState(path !== null);
  const [round, setRound] = useState(0);
  const key = apiKey.value;
  useEffect(() => {
    if (path === null) return;
    const stopper = new AbortController();
    setLoading(true);
    getJson<T>(path, stopper.signal).then(
      (answer) => { setData(answer); setProblem(null); setLoading(false); },
      (error: unknown) => {
        if (stopper.signal.aborted) return;
        setData(null);
        setProblem(error instanceof ProblemError ? error.problem : { kind: "server", title: "The page failed", detail: String(error) });
        setLoading(false);
      },
    );
    return () => stopper.abort();
  }, [path, key, round]);
  return { data, problem, isLoading, reload: () => setRound(round + 1) };
}
