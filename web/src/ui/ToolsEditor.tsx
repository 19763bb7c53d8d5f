// Tools as JSON, checked while it is typed, and which of them an answer may or must call.

import { readTools, toolNames } from "../chat/body";
import { changeSettings, thread } from "../chat/store";

const EXAMPLE = JSON.stringify(
  [{
    name: "get_weather",
    description: "Current weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  }],
  null, 2,
);

export function ToolsEditor() {
  const { tools, toolChoice } = thread.value;
  const { mistake } = readTools(tools);
  const names = toolNames(thread.value);
  return (
    <>
      <label class="field">
        <span>Tools, as JSON</span>
        <textarea
          class="mono" rows={8} value={tools} spellcheck={false} placeholder={EXAMPLE} aria-invalid={mistake !== null}
          onInput={(event) => changeSettings({ tools: event.currentTarget.value })}
        />
      </label>
      {mistake && <p class="mistake" role="status">{mistake}</p>}
      {!tools.trim() && <button type="button" class="quiet" onClick={() => changeSettings({ tools: EXAMPLE })}>Put in an example</button>}
      {names.length > 0 && (
        <label class="field">
          <span>tool_choice</span>
          <select value={toolChoice} onChange={(event) => changeSettings({ toolChoice: event.currentTarget.value })}>
            <option value="auto">auto: the model decides</option>
            <option value="none">none</option>
            <option value="required">required: one of them</option>
            {names.map((name) => <option key={name} value={name}>{name}</option>)}
          </select>
        </label>
      )}
    </>
  );
}
