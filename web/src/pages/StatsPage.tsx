// Statistics: what was used, how long it took, what went wrong, and what the engines do now. What is
// shown stands in the address. A key that infers sees its own requests and no engines.

import "../styles/stats.css";
import { useEffect, useMemo } from "preact/hooks";
import { apiKey } from "../api/key";
import { setTitle } from "../shell/title";
import { visit } from "../shell/router";
import { queryOf, readAddress } from "../stats/address";
import type { ErrorsAnswer, LatencyAnswer, UsageAnswer } from "../stats/answers";
import { Engines } from "../stats/Engines";
import { RangePicker } from "../stats/RangePicker";
import { Errors, Latency } from "../stats/Trouble";
import { Usage } from "../stats/Usage";
import { ProblemCard } from "../ui/ProblemCard";
import { useJson } from "../ui/useJson";

const BELOW = "/outrider/v1/statistics";

interface ThisKey {
  data: { is_management_key: boolean };
}

export default function StatsPage() {
  useEffect(() => setTitle("Statistics"), []);
  const { number } = visit.value;
  const shown = useMemo(() => readAddress(location.search), [number]);
  const query = queryOf(shown);
  const usage = useJson<UsageAnswer>(`${BELOW}/usage?${query}`);
  const latency = useJson<LatencyAnswer>(usage.data && `${BELOW}/latency?${query}`);
  const errors = useJson<ErrorsAnswer>(usage.data && `${BELOW}/errors?${query}`);
  const key = useJson<ThisKey>(apiKey.value && usage.data ? "/api/v1/key" : null);
  const isOwnOnly = apiKey.value !== "" && key.data?.data.is_management_key === false;
  const problem = usage.problem ?? latency.problem ?? errors.problem;
  const hasAny = usage.data !== null && usage.data.total.requests > 0;
  return (
    <main class="page stats" id="content" tabIndex={-1} aria-busy={usage.isLoading}>
      <h1>Statistics</h1>
      <p class="lead">{isOwnOnly ? "What the key of this tab did." : "What this server did."} Times are UTC.</p>
      <RangePicker shown={shown} />
      {problem && <ProblemCard problem={problem}><button type="button" class="primary" onClick={usage.reload}>Try again</button></ProblemCard>}
      {usage.data && !hasAny && <p class="nothing">Nothing was asked in this time. Choose a longer range, or <a href="/">ask a model something</a>.</p>}
      {hasAny && <Usage usage={usage.data!} latency={latency.data} query={query} />}
      {hasAny && latency.data && <Latency latency={latency.data} query={query} />}
      {hasAny && errors.data && <Errors errors={errors.data} query={query} />}
      {usage.data && !isOwnOnly && (apiKey.value === "" || key.data || key.problem) && <Engines />}
      {isOwnOnly && <section><h2>Engines</h2><p class="nothing">Engines work for all keys, so they are shown to management keys.</p></section>}
    </main>
  );
}
