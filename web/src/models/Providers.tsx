// Who answers for a model: prices, limits, and how they have been doing.

import type { Model } from "../api/models";
import { type Column, DataTable } from "../ui/DataTable";
import { perMillion, percent, seconds } from "../ui/format";
import { ProblemCard } from "../ui/ProblemCard";
import { useJson } from "../ui/useJson";
import { type Endpoint, pathOf, type Percentiles } from "./types";

const price = (title: string, of: (one: Endpoint) => string | undefined): Column<Endpoint> => ({
  title, kind: "number", value: (one) => (of(one) === undefined ? null : Number(of(one)) * 1e6), show: (one) => (of(one) === undefined ? "–" : perMillion(of(one)!)),
});
const unit = (title: string, of: (one: Endpoint) => string | undefined): Column<Endpoint> => ({
  title, kind: "number", value: (one) => Number(of(one) ?? 0), show: (one) => (Number(of(one) ?? 0) ? `$${Number(of(one))}` : "–"),
});
const uptime = (title: string, of: (one: Endpoint) => number | null): Column<Endpoint> => ({
  title, kind: "number", value: of, show: (one) => (of(one) === null ? "–" : percent(of(one)! / 100)),
});
const PERCENTILES = ["p50", "p75", "p90", "p99"] as const;

const OFFERS: Column<Endpoint>[] = [
  { title: "Provider", value: (one) => one.provider_name },
  { title: "State", value: (one) => (one.status === 0 ? "answers" : "is down") },
  price("Input / M", (one) => one.pricing.prompt),
  price("Output / M", (one) => one.pricing.completion),
  price("Cached / M", (one) => one.pricing.input_cache_read),
  unit("Per image", (one) => one.pricing.image),
  unit("Per request", (one) => one.pricing.request),
  { title: "Context", kind: "number", value: (one) => one.context_length || null },
  { title: "Longest answer", kind: "number", value: (one) => one.max_completion_tokens },
  { title: "Weights", value: (one) => (one.quantization === "unknown" ? null : one.quantization) },
];
const UPTIMES: Column<Endpoint>[] = [
  { title: "Provider", value: (one) => one.provider_name },
  uptime("5 minutes", (one) => one.uptime_last_5m),
  uptime("30 minutes", (one) => one.uptime_last_30m),
  uptime("1 day", (one) => one.uptime_last_1d),
];

/** Leave out the columns that no provider has anything in. */
function filled(columns: Column<Endpoint>[], endpoints: Endpoint[]): Column<Endpoint>[] {
  const always = new Set(["Input / M", "Output / M"]);
  return columns.filter(({ title, value }) => always.has(title) || endpoints.some((one) => value(one)));
}

interface Host {
  name: string;
  headquarters: string | null;
  datacenters: string[] | null;
}

/** Where a provider computes, or else is at home, in codes of countries as its operator wrote them. */
function placeOf(hosts: Host[]): Column<Endpoint> {
  const places = new Map(hosts.map(({ name, headquarters, datacenters }) => [name, datacenters?.join(", ") || headquarters]));
  return { title: "Where", value: (one) => places.get(one.provider_name) ?? null };
}

interface Speed {
  provider: string;
  what: string;
  values: Percentiles;
  show: (value: number) => string;
}

const SPEEDS: Column<Speed>[] = [
  { title: "Provider", value: (one) => one.provider },
  { title: "What", value: (one) => one.what },
  ...PERCENTILES.map((name): Column<Speed> => ({
    title: name, kind: "number", value: (one) => one.values[name] ?? null,
    show: (one) => (one.values[name] === undefined ? "–" : one.show(one.values[name]!)),
  })),
];

export function Providers({ model }: { model: Model }) {
  const { data, problem } = useJson<{ data: { endpoints: Endpoint[] } }>(`/api/v1/models/${pathOf(model.id)}/endpoints`);
  const hosts = useJson<{ data: Host[] }>("/api/v1/providers").data?.data ?? [];
  if (problem) return <section><h2>Providers</h2><ProblemCard problem={problem} /></section>;
  const endpoints = data?.data.endpoints ?? [];
  const speeds = endpoints.flatMap(speedsOf);
  return (
    <>
      <section>
        <h2>Providers</h2>
        {data && <DataTable caption="Providers and their prices" columns={filled([...OFFERS, placeOf(hosts)], endpoints)} rows={endpoints} />}
      </section>
      <section>
        <h2>Uptime of the providers</h2>
        {data && <DataTable caption="Uptime of the providers" columns={UPTIMES} rows={endpoints} />}
        <p class="faint">Good answers of all that a provider gave or failed to give, since the server was started; – where nobody asked.</p>
      </section>
      <section>
        <h2>Latency and throughput</h2>
        {data && (
          <DataTable
            caption="Latency and throughput of the last half hour" columns={SPEEDS} rows={speeds}
            nothing="Nobody has asked this model in the last half hour, or the server shows this to those with a key only."
          />
        )}
      </section>
    </>
  );
}

function speedsOf({ provider_name: provider, latency_last_30m: latency, throughput_last_30m: throughput }: Endpoint): Speed[] {
  return [
    ...(latency ? [{ provider, what: "Time to the first token", values: latency, show: (ms: number) => seconds(ms / 1000) }] : []),
    ...(throughput ? [{ provider, what: "Tokens per second", values: throughput, show: (rate: number) => rate.toFixed(1) }] : []),
  ];
}
