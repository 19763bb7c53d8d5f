// The reference of the API, drawn from the server's own description of it. `/docs` lists the
// operations, `/docs/{id}` shows one.

import "../styles/docs.css";
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { loadDocument, type Document } from "../api/document";
import { loadModels, models } from "../api/models";
import { OFFLINE } from "../api/problems";
import { OperationView } from "../docs/OperationView";
import { grouped, type Group, type Listed, operationsOf } from "../docs/operations";
import { Path } from "../docs/Path";
import type { PageProperties } from "../shell/router";
import { setTitle } from "../shell/title";
import { type Column, DataTable } from "../ui/DataTable";
import { ProblemCard } from "../ui/ProblemCard";

const document = signal<Document | null>(null);
const isFailed = signal(false);
const search = signal("");

async function load(): Promise<void> {
  isFailed.value = false;
  try {
    document.value = await loadDocument();
  } catch {
    isFailed.value = true;
  }
}

export default function DocsPage({ rest }: PageProperties) {
  useEffect(() => {
    if (!document.value) void load();
    if (models.value.length === 0) void loadModels();
  }, []);
  const operations = document.value ? operationsOf(document.value) : [];
  const chosen = operations.find(({ id }) => id === rest);
  useEffect(() => setTitle(chosen ? `${chosen.method} ${chosen.path}` : "API reference"), [chosen]);
  return (
    <div class="docs" data-chosen={Boolean(chosen)}>
      {document.value && <Operations operations={operations} chosen={rest} />}
      <main id="content" tabIndex={-1} aria-busy={!document.value && !isFailed.value}>
        {isFailed.value && (
          <ProblemCard problem={OFFLINE}><button type="button" class="primary" onClick={() => void load()}>Try again</button></ProblemCard>
        )}
        {chosen && <a class="back" href="/docs">All operations</a>}
        {document.value && (chosen ? <OperationView document={document.value} listed={chosen} /> : <Front document={document.value} rest={rest} />)}
      </main>
    </div>
  );
}

function Operations({ operations, chosen }: { operations: Listed[]; chosen: string }) {
  const groups = grouped(operations, search.value);
  return (
    <nav class="operations" aria-label="Operations">
      <input type="search" aria-label="Search operations" placeholder="Search" value={search.value} onInput={(event) => (search.value = event.currentTarget.value)} />
      <p class="hidden" role="status">{search.value && `${groups.reduce((sum, group) => sum + group.operations.length, 0)} operations found`}</p>
      {groups.length === 0 && <p class="nothing">Nothing found.</p>}
      {groups.map((group) => <GroupList key={group.tag} group={group} chosen={chosen} />)}
    </nav>
  );
}

function GroupList({ group, chosen }: { group: Group; chosen: string }) {
  return (
    <section>
      <h2>{group.tag}</h2>
      <ul>
        {group.operations.map(({ id, method, path, summary }) => (
          <li key={id}>
            <a href={`/docs/${id}`} aria-current={id === chosen ? "page" : undefined} title={summary}>
              <span class="method" data-method={method}>{method}</span><span class="path"><Path path={path} /></span>
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

interface Wire {
  name: string;
  base: string;
  note: string;
}

// What a client of each wire is told instead of its service's address.
const BASES: Record<string, [string, string]> = {
  OpenAI: ["/v1", "base_url of OpenAI's clients"],
  OpenRouter: ["/api/v1", "base URL of OpenRouter's clients"],
  "Workers AI": ["/client/v4", "base_url of Cloudflare's clients; any account id will do"],
  Dataoorts: ["/api/v1", "one address, POST"],
  Outrider: ["/outrider/v1", "what no wire has"],
  Operating: ["/", "health, metrics and this description"],
};

const COLUMNS: Column<Wire>[] = [
  { title: "Wire", value: ({ name }) => name },
  { title: "Base URL", value: ({ base }) => base, show: ({ base }) => <code>{base}</code> },
  { title: "For", value: ({ note }) => note },
];

function Front({ document, rest }: { document: Document; rest: string }) {
  const tags = new Set(operationsOf(document).map(({ tag }) => tag));
  const wires = [...tags].map((name) => ({ name, base: location.origin + (BASES[name]?.[0] ?? "/"), note: BASES[name]?.[1] ?? "" }));
  return (
    <>
      <h1>API reference</h1>
      {rest && <p class="mistake">There is no operation named {rest}.</p>}
      <p class="lead">
        Everything that this Outrider {document.info?.version} answers, from its own description. Choose an operation to see what it
        takes and to try it here. Where the server asks for keys, requests carry the one you entered.
      </p>
      <DataTable caption="Wires" columns={COLUMNS} rows={wires} />
      <p class="row"><a class="button" href="/openapi.json" download="openapi.json">Download openapi.json</a></p>
    </>
  );
}
