// The page of one model. Each part says in words when there is nothing to show yet; a part that the
// server refuses leaves the others standing.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import type { Model } from "../api/models";
import { loadParameters } from "../api/parameters";
import type { Problem } from "../api/problems";
import { setTitle } from "../shell/title";
import { count, perMillion, short } from "../ui/format";
import { IconButton } from "../ui/icons";
import { ProblemCard } from "../ui/ProblemCard";
import { copy } from "../ui/state";
import { useJson } from "../ui/useJson";
import { Benchmarks, Judgement } from "./Published";
import { ParameterTable } from "./ParameterTable";
import { Providers } from "./Providers";
import { Samples, Schemas } from "./Samples";
import { capabilitiesOf, type Facts, makesEmbeddings, type Page, pathOf } from "./types";
import { ModelUse } from "./ModelUse";

export function ModelDetail({ id }: { id: string }) {
  const { data, problem, reload } = useJson<{ data: Model }>(`/api/v1/model/${pathOf(id)}`);
  const page = useJson<Page>(`/outrider/v1/models/${pathOf(id)}`);
  useEffect(() => {
    setTitle(id);
    void loadParameters().catch(() => undefined); // the parts that need them say so
  }, [id]);
  if (problem) return <Missing id={id} problem={problem} reload={reload} />;
  if (!data) return <h1>{id}</h1>;
  const model = data.data;
  const facts = page.data?.facts ?? null;
  return (
    <article>
      <Head model={model} facts={facts} />
      <Overview model={model} page={page.data} />
      <Providers model={model} />
      <ModelUse id={model.id} />
      {!makesEmbeddings(model) && <ParameterTable model={model} />}
      <Benchmarks facts={facts} />
      <Judgement facts={facts} />
      <Samples model={model} />
      <Schemas model={model} />
    </article>
  );
}

function Missing({ id, problem, reload }: { id: string; problem: Problem; reload: () => void }) {
  return (
    <>
      <h1>{id}</h1>
      <ProblemCard problem={problem}>
        <button type="button" class="primary" onClick={reload}>Try again</button>
        <a class="button" href="/models">All models</a>
      </ProblemCard>
    </>
  );
}

function Head({ model, facts }: { model: Model; facts: Facts | null }) {
  return (
    <header class="model-head">
      <p class="faint"><a href="/models">Models</a>{facts && ` · ${facts.author}`}</p>
      <h1>{facts?.title ?? model.id}</h1>
      <p class="row id"><code>{model.id}</code><IconButton icon="copy" label="Copy the model's id" onClick={() => void copy(model.id, "Id copied")} /></p>
      <p class="lead">{facts?.summary ?? "Nothing has been published here about this model; what it can do is below."}</p>
      <ul class="chips">{capabilitiesOf(model.supported_parameters).map((name) => <li key={name}>{name}</li>)}</ul>
      {!makesEmbeddings(model) && <p class="row"><a class="button primary" href={`/?model=${encodeURIComponent(model.id)}`}>Open in the playground</a></p>}
    </header>
  );
}

function Overview({ model, page }: { model: Model; page: Page | null }) {
  const facts = page?.facts ?? null;
  const most = model.top_provider?.max_completion_tokens;
  return (
    <section aria-label="Overview">
      <dl class="overview">
        <Fact name="Context">{model.context_length ? `${count(model.context_length)} tokens` : "not known"}</Fact>
        {most && <Fact name="Longest answer">{count(most)} tokens</Fact>}
        <Fact name="Input">{priceOf(model.pricing.prompt)}</Fact>
        <Fact name="Output">{priceOf(model.pricing.completion)}</Fact>
        <Fact name="Reads">{model.architecture.input_modalities.join(", ")}</Fact>
        <Fact name="Gives">{makesEmbeddings(model) ? "embeddings" : "text"}</Fact>
        {!makesEmbeddings(model) && <Fact name="Calls functions">{model.supported_parameters.includes("tools") ? "yes" : "no"}</Fact>}
        <Fact name="Batches">yes, by <code>/v1/batches</code></Fact>
        {facts && <PublishedFacts facts={facts} />}
        {page && page.aliases.length > 0 && <Fact name="Also answers to">{page.aliases.join(", ")}</Fact>}
      </dl>
      {facts && <p class="faint">Released, size, licence and training as published: {facts.source}.</p>}
    </section>
  );
}

function PublishedFacts({ facts }: { facts: Facts }) {
  return (
    <>
      {facts.parameters && (
        <Fact name="Parameters">{short(facts.parameters)}{facts.active_parameters && `, ${short(facts.active_parameters)} at work on each token`}</Fact>
      )}
      {facts.architecture && <Fact name="Architecture">{facts.architecture}</Fact>}
      {facts.trained_context && <Fact name="Trained for">{short(facts.trained_context)} tokens of context</Fact>}
      {facts.trained_tokens && <Fact name="Trained on">about {short(facts.trained_tokens)} tokens</Fact>}
      <Fact name="Knowledge until">{facts.knowledge_cutoff ?? "not published"}</Fact>
      {facts.released && <Fact name="Released">{facts.released}</Fact>}
      <Fact name="Licence"><a href={facts.license_url} rel="noopener noreferrer" target="_blank">{facts.license}</a></Fact>
      {facts.languages.length > 0 && <Fact name="Languages">{facts.languages.join(", ")}</Fact>}
    </>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return <div><dt>{name}</dt><dd>{children}</dd></div>;
}

function priceOf(price: string): string {
  return Number(price) === 0 ? "free" : `${perMillion(price)} per million tokens`;
}
