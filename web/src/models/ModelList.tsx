// All models, searched, filtered and sorted by the server's catalogue. What is chosen stands in the
// address, so it can be kept and passed on.

import { useEffect, useState } from "preact/hooks";
import type { Model } from "../api/models";
import { setTitle } from "../shell/title";
import { count, perMillion } from "../ui/format";
import { ProblemCard } from "../ui/ProblemCard";
import { useJson } from "../ui/useJson";
import { CAPABILITIES, capabilitiesOf, makesEmbeddings, pageOf } from "./types";

type Filters = Record<"q" | "output_modalities" | "input_modalities" | "supported_parameters" | "providers" | "sort", string>;

const SORTS: Record<string, string> = {
  "": "As configured", "context-high-to-low": "Longest context", "pricing-low-to-high": "Lowest price",
  "throughput-high-to-low": "Most tokens per second", "latency-low-to-high": "Fastest first token", newest: "Newest",
};

export function ModelList() {
  const [filters, setFilters] = useState<Filters>(fromAddress);
  useEffect(() => setTitle("Models"), []);
  const query = queryOf(filters);
  const { data, problem, reload } = useJson<{ data: Model[]; total_count: number }>(`/api/v1/models${queryOf({ ...filters, output_modalities: filters.output_modalities || "all" })}`);
  const change = (changes: Partial<Filters>) => {
    const next = { ...filters, ...changes };
    setFilters(next);
    window.history.replaceState(null, "", `/models${queryOf(next)}`);
  };
  return (
    <>
      <h1>Models</h1>
      <p class="lead">What this server answers for, by itself or through the providers behind it.</p>
      <Choices filters={filters} change={change} />
      {problem && <ProblemCard problem={problem}><button type="button" class="primary" onClick={reload}>Try again</button></ProblemCard>}
      {data && <p class="faint" role="status">{data.data.length === 1 ? "1 model" : `${count(data.data.length)} models`}</p>}
      {data?.data.length === 0 && <Nothing isFiltered={query !== ""} />}
      <ul class="models">{data?.data.map((model) => <Item key={model.id} model={model} />)}</ul>
    </>
  );
}

function Nothing({ isFiltered }: { isFiltered: boolean }) {
  if (isFiltered) return <p class="nothing">No model is like that. Take a filter away.</p>;
  return (
    <p class="nothing">
      The server has no model. Start it with one, such as <code>outrider serve smollm2-135m-instruct</code>, or name a
      provider in <code>outrider.toml</code>.
    </p>
  );
}

function Choices({ filters, change }: { filters: Filters; change: (changes: Partial<Filters>) => void }) {
  const { data } = useJson<{ data: { name: string; slug: string }[] }>("/api/v1/providers");
  const providers = Object.fromEntries((data?.data ?? []).map(({ name, slug }) => [slug, name]));
  return (
    <form class="filters" role="search" aria-label="Models" onSubmit={(event) => event.preventDefault()}>
      <label class="field wide">
        <span>Search</span>
        <input type="search" value={filters.q} placeholder="A part of the name" onInput={(event) => change({ q: event.currentTarget.value })} />
      </label>
      <Select label="Gives" value={filters.output_modalities} names={{ "": "Anything", text: "Text", embeddings: "Embeddings" }} choose={(one) => change({ output_modalities: one })} />
      <Select label="Reads" value={filters.input_modalities} names={{ "": "Anything", text: "Text", image: "Images" }} choose={(one) => change({ input_modalities: one })} />
      <Select label="Can do" value={filters.supported_parameters} names={{ "": "Anything", ...CAPABILITIES }} choose={(one) => change({ supported_parameters: one })} />
      <Select label="Provider" value={filters.providers} names={{ "": "Any", ...providers }} choose={(one) => change({ providers: one })} />
      <Select label="Sort by" value={filters.sort} names={SORTS} choose={(one) => change({ sort: one })} />
    </form>
  );
}

function Select({ label, value, names, choose }: { label: string; value: string; names: Record<string, string>; choose: (name: string) => void }) {
  return (
    <label class="field">
      <span>{label}</span>
      <select value={value} onChange={(event) => choose(event.currentTarget.value)}>
        {Object.entries(names).map(([name, shown]) => <option key={name} value={name}>{shown}</option>)}
      </select>
    </label>
  );
}

function Item({ model }: { model: Model }) {
  const { prompt, completion } = model.pricing;
  const isFree = Number(prompt) === 0 && Number(completion) === 0;
  return (
    <li class="model">
      <h2><a href={pageOf(model.id)}>{model.id}</a></h2>
      {model.description && <p class="summary">{model.description}</p>}
      <p class="facts-line">
        {model.context_length && <span>{count(model.context_length)} tokens of context</span>}
        <span>{isFree ? "free" : `${perMillion(prompt)} in, ${perMillion(completion)} out per million tokens`}</span>
        <span>reads {model.architecture.input_modalities.join(" and ")}{makesEmbeddings(model) && ", gives embeddings"}</span>
      </p>
      <ul class="chips">{capabilitiesOf(model.supported_parameters).map((name) => <li key={name}>{name}</li>)}</ul>
    </li>
  );
}

function fromAddress(): Filters {
  const query = new URLSearchParams(location.search);
  const of = (name: string) => query.get(name) ?? "";
  return {
    q: of("q"), output_modalities: of("output_modalities"), input_modalities: of("input_modalities"), supported_parameters: of("supported_parameters"),
    providers: of("providers"), sort: of("sort") in SORTS ? of("sort") : "",
  };
}

function queryOf(filters: Filters): string {
  const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value !== "")).toString();
  return query && `?${query}`;
}
