// The models that this server answers for.

import { useEffect } from "preact/hooks";
import { type Model, models, modelsProblem, loadModels, areModelsLoaded } from "../api/models";
import type { PageProperties } from "../shell/router";
import { setTitle } from "../shell/title";
import { type Column, DataTable } from "../ui/DataTable";
import { ProblemCard } from "../ui/ProblemCard";

const COLUMNS: Column<Model>[] = [
  { title: "Model", value: (model) => model.id },
  { title: "Name", value: (model) => model.name },
  { title: "Context", kind: "number", value: (model) => model.context_length },
  { title: "Reads", value: (model) => model.architecture.input_modalities.join(", ") },
];

export default function ModelsPage({ rest }: PageProperties) {
  useEffect(() => {
    setTitle("Models");
    void loadModels();
  }, [rest]);
  return (
    <main class="page" id="content" tabIndex={-1}>
      <h1>Models</h1>
      {modelsProblem.value && <ProblemCard problem={modelsProblem.value} />}
      {areModelsLoaded.value && <DataTable caption="Models" columns={COLUMNS} rows={models.value} nothing="This server has no model." />}
    </main>
  );
}
