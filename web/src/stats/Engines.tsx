// What the engines on this machine do now, asked every two seconds while somebody looks.

import { useEffect, useMemo, useState } from "preact/hooks";
import { getJson } from "../api/get";
import { apiKey } from "../api/key";
import { type Problem, ProblemError } from "../api/problems";
import { Chart } from "../ui/Chart";
import { ProblemCard } from "../ui/ProblemCard";
import type { Engine, EnginesAnswer } from "./answers";
import { percent, short } from "./figures";

const INTERVAL_MS = 2000;

export function Engines() {
  const { answer, problem } = usePolled();
  const engines = answer?.engines ?? [];
  return (
    <section aria-labelledby="engines">
      <h2 id="engines">Engines, live</h2>
      {problem && <ProblemCard problem={problem} />}
      {answer && engines.length === 0 && <p class="nothing">No model runs on this machine: its providers are all remote.</p>}
      {engines.map((engine) => <EngineView key={engine.model} engine={engine} />)}
    </section>
  );
}

function EngineView({ engine }: { engine: Engine }) {
  const charts = useMemo(() => chartsOf(engine), [engine]);
  return (
    <div class="engine">
      <h3>{engine.model}{!engine.is_ready && <span class="mistake"> is being loaded</span>}</h3>
      <dl class="figures">
        {figuresOf(engine).map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}
      </dl>
      <div class="charts">
        {charts.map((chart) => <Chart key={chart.title} {...chart} times={engine.times_s} step="second" height={140} />)}
      </div>
    </div>
  );
}

function figuresOf(engine: Engine): [string, string][] {
  const hits = engine.prefix_hits.at(-1) ?? null;
  return [
    ["Batch size", String(engine.batch_size.at(-1) ?? 0)],
    ["Queue", String(engine.queue.at(-1) ?? 0)],
    ["KV cache in use", percent(engine.kv_use.at(-1) ?? 0)],
    ["Prefix hits", hits === null ? "–" : percent(hits)],
    ["Tokens/s out", short(engine.output_tokens_per_s.at(-1) ?? 0)],
    ["Tokens/s in", short(engine.prompt_tokens_per_s.at(-1) ?? 0)],
  ];
}

function chartsOf(engine: Engine) {
  return [
    { title: "Sequences", series: [{ label: "Batch", values: engine.batch_size }, { label: "Queue", values: engine.queue }], show: short },
    { title: "Tokens per second", series: [{ label: "Out", values: engine.output_tokens_per_s }, { label: "In", values: engine.prompt_tokens_per_s }], show: short },
    { title: "KV cache and prefix hits", series: [{ label: "KV cache in use", values: engine.kv_use }, { label: "Prefix hits", values: engine.prefix_hits }], show: percent, range: [0, 1] as [number, number] },
  ];
}

function usePolled(): { answer: EnginesAnswer | null; problem: Problem | null } {
  const [state, setState] = useState<{ answer: EnginesAnswer | null; problem: Problem | null }>({ answer: null, problem: null });
  const key = apiKey.value;
  useEffect(() => {
    const stopper = new AbortController();
    const poll = async () => {
      if (document.hidden) return;
      try {
        setState({ answer: await getJson<EnginesAnswer>("/outrider/v1/statistics/engines", stopper.signal), problem: null });
      } catch (error) {
        if (!stopper.signal.aborted && error instanceof ProblemError) setState({ answer: null, problem: error.problem });
      }
    };
    void poll();
    const timer = setInterval(() => void poll(), INTERVAL_MS);
    return () => {
      clearInterval(timer);
      stopper.abort();
    };
  }, [key]);
  return state;
}
