// Values over time as a picture, and the same values as a table and as CSV for whoever can't or
// won't look at a picture. What draws comes later, with the first chart.

import { useEffect, useRef, useState } from "preact/hooks";
import { type Column, DataTable } from "./DataTable";
import { download } from "./download";
import type { Plot } from "./plot";
import { csvOf } from "./rows";
import { theme } from "./state";

export const MAX_SERIES = 6; // there are so many colours that can be told apart

export interface Series {
  label: string;
  values: (number | null)[]; // null where there is nothing to draw
}

export interface ChartProperties {
  title: string;
  times: number[]; // seconds since 1970, ascending
  series: Series[]; // at most MAX_SERIES
  kind?: "lines" | "bars"; // bars stand on top of each other
  show?: (value: number) => string; // a value in words, with its unit
  step?: "day" | "hour" | "second"; // how exactly a time is told
  range?: [number, number]; // what the upright axis shows at least
  height?: number;
}

export function Chart(properties: ChartProperties) {
  const { title, times, series, height = 200 } = properties;
  const [isTable, setTable] = useState(false);
  return (
    <figure class="chart">
      <figcaption>
        <strong>{title}</strong>
        <button type="button" class="quiet" aria-pressed={isTable} onClick={() => setTable(!isTable)}>{isTable ? "Show as chart" : "Show as table"}</button>
        <button type="button" class="quiet" disabled={times.length === 0} onClick={() => saveCsv(properties)} aria-label={`Download ${title} as CSV`}>CSV</button>
      </figcaption>
      {times.length === 0 && <p class="nothing">Nothing has been counted yet.</p>}
      {times.length > 0 && (isTable ? <Values {...properties} /> : <Picture {...properties} series={series.slice(0, MAX_SERIES)} height={height} onFail={() => setTable(true)} />)}
    </figure>
  );
}

function Picture(properties: ChartProperties & { height: number; onFail: () => void }) {
  const { title, times, series, height, onFail, show = String } = properties;
  const element = useRef<HTMLDivElement>(null);
  const plot = useRef<Plot | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const isSystemDark = useSystemDark();
  useEffect(() => {
    let isCurrent = true;
    void import("./plot").then(({ draw }) => {
      if (isCurrent && element.current) plot.current = draw(element.current, properties, setAt);
    }, () => isCurrent && onFail()); // what draws couldn't be loaded
    return () => {
      isCurrent = false;
      plot.current?.close();
      plot.current = null;
    };
  }, [times, series.map(({ values }) => values.length).join(), properties.kind, theme.value, isSystemDark]);
  const shown = at === null ? null : at < times.length ? at : null;
  return (
    <>
      <div ref={element} class="plot" role="img" aria-label={`Chart: ${title}. The button Show as table gives its values.`} style={{ height: `${height}px` }} />
      <ul class="keys">
        <li class="faint">{shown === null ? spanOf(properties) : timeOf(times[shown]!, properties.step)}</li>
        {series.map(({ label, values }, place) => {
          const value = shown === null ? null : values[shown] ?? null;
          return <li key={label}><span class="swatch" data-at={place} /> {label} {value !== null && <b>{show(value)}</b>}</li>;
        })}
      </ul>
    </>
  );
}

function Values(properties: ChartProperties) {
  const { title, times, series, show = String, step } = properties;
  const columns: Column<number>[] = [
    { title: "Time (UTC)", value: (at) => times[at]!, show: (at) => timeOf(times[at]!, step) },
    ...series.map(({ label, values }): Column<number> => ({
      title: label, kind: "number", value: (at) => values[at] ?? null, show: (at) => textOf(values[at], show),
    })),
  ];
  return <DataTable caption={title} columns={columns} rows={times.map((_, at) => at)} sortedBy={{ title: "Time (UTC)", isDescending: true }} />;
}

function textOf(value: number | null | undefined, show: (value: number) => string): string {
  return value === null || value === undefined ? "–" : show(value);
}

export function timeOf(time: number, step: ChartProperties["step"] = "day"): string {
  const length = { day: 10, hour: 16, second: 19 }[step];
  return new Date(time * 1000).toISOString().slice(0, length).replace("T", " ");
}

function spanOf({ times, step }: ChartProperties): string {
  const [first, last] = [times[0]!, times[times.length - 1]!].map((time) => timeOf(time, step));
  return first === last ? first! : `${first} to ${last}`;
}

function saveCsv({ title, times, series, step }: ChartProperties): void {
  const headings = ["time_utc", ...series.map(({ label }) => label)];
  const rows = times.map((time, at) => [timeOf(time, step), ...series.map(({ values }) => values[at] ?? null)]);
  download(`${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.csv`, csvOf(headings, rows), "text/csv");
}

function useSystemDark(): boolean {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [isDark, setDark] = useState(query.matches);
  useEffect(() => {
    const onChange = () => setDark(query.matches);
    query.addEventListener("change", onChange);
    return () => query.removeEventListener("change", onChange);
  }, []);
  return isDark;
}
