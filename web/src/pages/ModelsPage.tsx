// The models that this server answers for: the list, or the page of one of them.

import "../styles/models.css";
import { ModelDetail } from "../models/ModelDetail";
import { ModelList } from "../models/ModelList";
import type { PageProperties } from "../shell/router";

export default function ModelsPage({ rest }: PageProperties) {
  return (
    <main class="page" id="content" tabIndex={-1}>
      {rest ? <ModelDetail key={rest} id={rest} /> : <ModelList />}
    </main>
  );
}
