// How to ask a model from code, and the schemas of what is sent and answered, for each wire.

import { useState } from "preact/hooks";
import type { Model } from "../api/models";
import { apiDocument, fieldsByPath } from "../api/parameters";
import { HIGHLIGHTED, type Language, LANGUAGES, sample, type Wire } from "../code/samples";
import { Choice } from "../ui/Choice";
import { CodeBlock } from "../ui/CodeBlock";
import { download } from "../ui/download";
import { embeddingSample } from "./embedding-sample";
import { pathsOf, type Side, SIDES, schemaOf, wiresOf } from "./schemas";
import { makesEmbeddings } from "./types";

const QUESTION = "Explain how a lighthouse lens works, in two sentences.";

export function Samples({ model }: { model: Model }) {
  const [wire, setWire] = useState<Wire>("openai");
  const [language, setLanguage] = useState<Language>("curl");
  const body = { model: model.id, messages: [{ role: "user", content: QUESTION }], max_tokens: 200 };
  const code = makesEmbeddings(model)
    ? embeddingSample(`${location.origin}${wire === "openai" ? "/v1" : "/api/v1"}`, model.id, language)
    : sample(body, wire, language, location.origin, fieldsByPath.value).code;
  return (
    <section>
      <h2>Code</h2>
      <div class="row choices">
        <Choice<string> label="Wire of the code" names={wiresOf(model)} chosen={wire} choose={(one) => setWire(one as Wire)} />
        <Choice label="Language" names={LANGUAGES} chosen={language} choose={setLanguage} />
      </div>
      <CodeBlock text={code} language={HIGHLIGHTED[language]} />
    </section>
  );
}

export function Schemas({ model }: { model: Model }) {
  const [wire, setWire] = useState<Wire>("openai");
  const [side, setSide] = useState<Side>("input");
  const [isShown, setShown] = useState(false);
  const document = apiDocument.value;
  const schema = document && schemaOf(document, pathsOf(model)[wire] ?? "", side);
  const text = schema ? JSON.stringify(schema, null, 2) : "";
  const name = `${wire}-${side}.schema.json`;
  return (
    <section>
      <h2>Schemas</h2>
      <p class="lead">JSON Schemas of {model.id}'s requests and answers, complete in themselves.</p>
      <div class="row choices">
        <Choice<string> label="Wire of the schema" names={wiresOf(model)} chosen={wire} choose={(one) => setWire(one as Wire)} />
        <Choice label="Side" names={SIDES} chosen={side} choose={setSide} />
      </div>
      {schema ? (
        <div class="row">
          <button type="button" aria-expanded={isShown} onClick={() => setShown(!isShown)}>{isShown ? "Hide" : "Show"} {name}</button>
          <button type="button" onClick={() => download(name, text, "application/schema+json")}>Download {name}</button>
        </div>
      ) : <p class="nothing">{document ? "This wire has no such schema." : "The server's description couldn't be loaded."}</p>}
      {isShown && schema && <div class="schema"><CodeBlock text={text} language="json" /></div>}
    </section>
  );
}
