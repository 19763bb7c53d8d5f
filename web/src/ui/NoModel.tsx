// The playground without a model: offers to fetch the default one and to load it, with its progress.
// What it does that with is loaded only then.

import type { ComponentType } from "preact";
import { useState } from "preact/hooks";
import { loadModels } from "../api/models";

export function NoModel() {
  // In an object, since a state's setter would call a component.
  const [starter, setStarter] = useState<{ part: ComponentType | null }>({ part: null });
  const [isFailed, setFailed] = useState(false);
  const begin = () => import("../admin/FirstModel").then(({ FirstModel }) => setStarter({ part: FirstModel }), () => setFailed(true));
  const Part = starter.part;
  return (
    <div class="problem" role="alert">
      <strong>No model is loaded</strong>
      <p>Outrider can fetch a small one (SmolLM2 135M Instruct, about 94 MB) and load it now. Others are on the <a href="/admin">Admin page</a>.</p>
      {Part ? <Part /> : (
        <div class="row">
          <button type="button" class="primary" onClick={() => void begin()}>Fetch and load it</button>
          <button type="button" onClick={() => void loadModels()}>Look again</button>
        </div>
      )}
      {isFailed && <p>That part of the page couldn't be loaded; reload it.</p>}
    </div>
  );
}
