// One operation: what it takes, what it answers, and a form that tries it.

import type { Document, ParameterOf, Schema } from "../api/document";
import { type Listed, groupedStatuses } from "./operations";
import { SchemaTree } from "./SchemaTree";
import { Path } from "./Path";
import { TryIt } from "./TryIt";
import { limitsOf, typeOf } from "./tree";

export function OperationView({ document, listed }: { document: Document; listed: Listed }) {
  const { method, path, summary, operation } = listed;
  const parameters = operation.parameters ?? [];
  const body = Object.entries(operation.requestBody?.content ?? {});
  return (
    <article class="operation" aria-label={`${method} ${path}`}>
      <p class="lead">{listed.tag}{isOpen(operation.security) && " · needs no key"}</p>
      <h1>{summary.replace(/\.$/, "")}</h1>
      <p class="address"><span class="method" data-method={method}>{method}</span> <code><Path path={path} /></code></p>
      <button type="button" class="jump" onClick={goToForm}>Try it</button>
      {parameters.length > 0 && (
        <section aria-label="Parameters">
          <h2>Parameters</h2>
          <ul class="fields">{parameters.map((one) => <ParameterRow key={`${one.in} ${one.name}`} document={document} parameter={one} />)}</ul>
        </section>
      )}
      {body.map(([mediaType, { schema }]) => (
        <section key={mediaType} aria-label="Body">
          <h2>Body <code class="faint">{mediaType}</code></h2>
          {schema && <SchemaTree document={document} schema={schema} />}
        </section>
      ))}
      <TryIt key={listed.id} document={document} listed={listed} />
      <Answers document={document} listed={listed} />
    </article>
  );
}

function goToForm(): void {
  const form = window.document.querySelector<HTMLElement>(".try");
  form?.scrollIntoView({ block: "center" });
  form?.querySelector<HTMLElement>("input, select, textarea, button")?.focus({ preventScroll: true });
}

/** An empty entry says that no key will do as well as one; alone it says that none is looked at. */
function isOpen(security: object[] | undefined): boolean {
  return security?.every((one) => Object.keys(one).length === 0) ?? false;
}

function ParameterRow({ document, parameter }: { document: Document; parameter: ParameterOf }) {
  const { name, schema = {}, required, description } = parameter;
  return (
    <li>
      <div class="field">
        <code class="field-name">{name}</code>
        <span class="field-type">{typeOf(document, schema)}</span>
        <span class="limit">in the {parameter.in === "path" ? "path" : parameter.in}</span>
        {required && <span class="badge">required</span>}
        {limitsOf(schema).map((limit) => <span key={limit} class="limit">{limit}</span>)}
      </div>
      {(description ?? schema.description) && <p class="field-help">{description ?? schema.description}</p>}
    </li>
  );
}

function Answers({ document, listed }: { document: Document; listed: Listed }) {
  return (
    <section aria-label="Answers">
      <h2>Answers</h2>
      {groupedStatuses(listed.operation).map(({ statuses, description, content }) => (
        <details key={statuses.join()} class="answers">
          <summary>
            <strong class="status" data-good={statuses[0]!.startsWith("2")}>{statuses.join(", ")}</strong> {description}
          </summary>
          {content.map(([mediaType, { schema, "x-itemSchema": item }]: [string, { schema?: Schema; "x-itemSchema"?: Schema }]) => (
            <div key={mediaType}>
              <p class="faint"><code>{mediaType}</code>{item && ", each event:"}</p>
              {(item ?? schema) && <SchemaTree document={document} schema={(item ?? schema)!} />}
            </div>
          ))}
        </details>
      ))}
    </section>
  );
}
