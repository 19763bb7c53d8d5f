// How a model was used here: tokens by day, uptime by hour, and the apps that asked it.

import { Chart } from "../ui/Chart";
import { type Column, DataTable } from "../ui/DataTable";
import { percent, short } from "../ui/format";
import { ProblemCard } from "../ui/ProblemCard";
import { useJson } from "../ui/useJson";
import { useMemo } from "preact/hooks";
import { pathOf, type Use } from "./types";

type App = Use["apps"][number];

const APPS: Column<App>[] = [
  { title: "App", value: (app) => app.title || app.url, show: (app) => <AppName app={app} /> },
  { title: "Tokens", kind: "number", value: (app) => app.tokens },
  { title: "Requests", kind: "number", value: (app) => app.requests },
];

export function ModelUse({ id }: { id: string }) {
  const { data, problem } = useJson<Use>(`/outrider/v1/use/${pathOf(id)}`);
  if (problem) return <section><h2>Activity</h2><ProblemCard problem={problem} /></section>;
  if (!data) return <section><h2>Activity</h2></section>;
  return (
    <>
      <section>
        <h2>Activity</h2>
        <Tokens days={data.days} />
      </section>
      <section>
        <h2>Uptime</h2>
        <Uptime hours={data.hours} />
        <p class="faint">The share of requests that were answered, whoever did it in the end; what callers got wrong isn't counted.</p>
      </section>
      <section>
        <h2>Top apps</h2>
        <DataTable caption="Apps by tokens of the last 30 days" columns={APPS} rows={data.apps} nothing="No app has named itself yet. Apps do so with the headers HTTP-Referer and X-Title." />
      </section>
    </>
  );
}

function Tokens({ days }: { days: Use["days"] }) {
  const isUsed = days.some(({ requests }) => requests > 0);
  const times = useMemo(() => (isUsed ? days.map(({ day }) => Date.parse(day) / 1000) : []), [days]);
  const series = [
    { label: "Prompts", values: days.map((day) => day.prompt_tokens) },
    { label: "Answers", values: days.map((day) => day.completion_tokens) },
  ];
  return <Chart title="Tokens per day" times={times} series={series} kind="bars" show={short} />;
}

function Uptime({ hours }: { hours: Use["hours"] }) {
  const isUsed = hours.some(({ requests }) => requests > 0);
  const times = useMemo(() => (isUsed ? hours.map(({ begin }) => Date.parse(begin) / 1000) : []), [hours]);
  const series = [{ label: "Uptime", values: hours.map(({ uptime }) => uptime) }];
  return <Chart title="Uptime of the last 72 hours" times={times} series={series} show={percent} step="hour" range={[0.9, 1]} />;
}

/** An app's title and address are its own words: text, and a link only if it leads to a web page. */
function AppName({ app }: { app: App }) {
  const name = app.title || app.url;
  if (!/^https?:\/\//.test(app.url)) return <>{name}</>;
  return <a href={app.url} rel="noopener noreferrer nofollow" target="_blank">{name}</a>;
}
