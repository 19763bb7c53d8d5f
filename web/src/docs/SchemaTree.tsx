// A schema as a tree that is opened level by level; what isn't open isn't drawn, so a schema that
// holds itself costs nothing.

import { useState } from "preact/hooks";
import { type Document, type Schema } from "../api/document";
import { type Field, fieldsOf, limitsOf, shapesOf, sorted, typeOf } from "./tree";

export function SchemaTree({ document, schema }: { document: Document; schema: Schema }) {
  const shapes = shapesOf(document, schema);
  if (shapes.length === 0) return <p class="schema-type"><code>{typeOf(document, schema)}</code> <Limits schema={schema} /></p>;
  return (
    <div class="schema">
      {shapes.map((shape, at) => (
        <section key={at} class="shape">
          {shapes.length > 1 && <p class="shape-name">{at > 0 && "or "}{shape.schema.description ?? shape.name}</p>}
          <Fields document={document} fields={fieldsOf(shape.schema)} />
        </section>
      ))}
    </div>
  );
}

function Fields({ document, fields }: { document: Document; fields: Field[] }) {
  const { active, idle } = sorted(fields);
  const row = (field: Field) => <FieldRow key={field.name} document={document} field={field} />;
  return (
    <>
      <ul class="fields">{active.map(row)}</ul>
      {idle.length > 0 && (
        <details>
          <summary>Known, but refused or without effect: {idle.length}</summary>
          <ul class="fields">{idle.map(row)}</ul>
        </details>
      )}
    </>
  );
}

function FieldRow({ document, field }: { document: Document; field: Field }) {
  const { name, schema, isRequired } = field;
  const hasInside = shapesOf(document, schema).length > 0;
  return (
    <li>
      <div class="field">
        <code class="field-name">{name}</code>
        <span class="field-type">{typeOf(document, schema)}</span>
        {isRequired && <span class="badge">required</span>}
        <Limits schema={schema} />
      </div>
      {schema.description && <p class="field-help">{schema.description}</p>}
      {hasInside && <Inside document={document} name={name} schema={schema} />}
    </li>
  );
}

function Inside({ document, name, schema }: { document: Document; name: string; schema: Schema }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Fields of {name}</summary>
      {isOpen && <SchemaTree document={document} schema={schema} />}
    </details>
  );
}

function Limits({ schema }: { schema: Schema }) {
  return <>{limitsOf(schema).map((limit) => <span key={limit} class="limit">{limit}</span>)}</>;
}
