// How long answers took, and what went wrong: charts over time and tables.

import { useMemo } from "preact/hooks";
import { Chart } from "../ui/Chart";
import { type Column, DataTable } from "../ui/DataTable";
import { GROUPS } from "./address";
import type { ErrorsAnswer, LatencyAnswer, Origin } from "./answers";
import { CsvLink } from "./CsvLink";
import { short, time } from "./figures";
import { errorSeries, ORIGINS, timeSeries } from "./series";

export function Latency({ latency, query }: { latency: LatencyAnswer; query: string }) {
  const first = useMemo(() => timeSeries(latency, "time_to_first_token"), [latency]);
  const whole = useMemo(() => timeSeries(latency, "duration"), [latency]);
  const chart = { times: latency.begins_s, step: latency.range.interval, show: time };
  return (
    <section aria-labelledby="latency">
      <div class="row title"><h2 id="latency">Times</h2><CsvLink what="latency" query={query} /></div>
      <p class="lead">Of requests that were answered; each figure is at most {latency.error_percent} % off.</p>
      <div class="charts">
        <Chart {...chart} title="Time to first token" series={first} />
        <Chart {...chart} title="Whole time" series={whole} />
      </div>
    </section>
  );
}

export function Errors({ errors, query }: { errors: ErrorsAnswer; query: string }) {
  const series = useMemo(() => errorSeries(errors), [errors]);
  const title = GROUPS[errors.group_by];
  return (
    <section aria-labelledby="errors">
      <div class="row title"><h2 id="errors">Errors</h2><CsvLink what="errors" query={query} /></div>
      {errors.statuses.length === 0 && <p class="nothing">Nothing went wrong in this range.</p>}
      {errors.statuses.length > 0 && (
        <>
          <div class="charts">
            <Chart title="Errors by origin" times={errors.begins_s} series={series} kind="bars" step={errors.range.interval} show={short} />
          </div>
          <div class="tables">
            <DataTable caption="Errors by origin and status" columns={STATUSES} rows={errors.statuses} />
            {errors.groups.length > 0 && <DataTable caption={`Errors by ${title.toLowerCase()}`} columns={groupColumns(title)} rows={errors.groups} />}
          </div>
        </>
      )}
    </section>
  );
}

const STATUSES: Column<ErrorsAnswer["statuses"][number]>[] = [
  { title: "Whose fault", value: ({ origin }) => ORIGINS[origin] },
  { title: "Status", kind: "number", value: ({ status }) => status, show: ({ status }) => STATUS_WORDS[status] ?? String(status) },
  { title: "Requests", kind: "number", value: ({ requests }) => requests },
];

const STATUS_WORDS: Record<number, string> = { 200: "200, cut in mid-answer", 499: "499, the client left" };

function groupColumns(title: string): Column<ErrorsAnswer["groups"][number]>[] {
  const origins = Object.keys(ORIGINS) as Origin[];
  return [
    { title, value: ({ label }) => label },
    ...origins.map((origin): Column<ErrorsAnswer["groups"][number]> => ({
      title: ORIGINS[origin], kind: "number", value: (row) => row.origins[origin],
    })),
  ];
}
