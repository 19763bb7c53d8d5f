// The settings of a thread: model, system prompt, parameters, tools, schema and presets.

import { modelsById } from "../api/models";
import { parameters } from "../api/parameters";
import { activeThread, changeSettings, conversation, thread } from "../chat/store";
import { count, dollars } from "./format";
import { IconButton } from "./icons";
import { ModelPicker } from "./ModelPicker";
import { ParameterControl } from "./ParameterControl";
import { Presets } from "./Presets";
import { ProviderPicker } from "./ProviderPicker";
import { SchemaEditor } from "./SchemaEditor";
import { isSettingsOpen } from "./state";
import { ToolsEditor } from "./ToolsEditor";

export function SettingsPanel() {
  const one = thread.value;
  const model = modelsById.value.get(one.model);
  return (
    <aside class="panel settings" aria-label="Settings">
      <header>
        <h2>Settings</h2>
        <IconButton icon="close" label="Close settings" onClick={() => (isSettingsOpen.value = false)} />
      </header>
      <div class="panel-body">
        {conversation.value.threads.length > 1 && <Panes />}
        <label class="field">
          <span>Model</span>
          <ModelPicker label="Model" value={one.model} onChange={(id) => changeSettings({ model: id })} />
        </label>
        {model && <ProviderPicker model={one.model} value={one.provider} />}
        {model && (
          <p class="faint model-facts">
            {model.context_length ? `${count(model.context_length)} tokens of context` : "Context unknown"}
            {" · "}{model.architecture.input_modalities.join(" and ")}{" · "}{price(model.pricing)}
          </p>
        )}
        <label class="field">
          <span>System prompt</span>
          <textarea
            rows={3} value={one.system} placeholder="How the model should behave"
            onInput={(event) => changeSettings({ system: event.currentTarget.value })}
          />
        </label>
        <Section title="Parameters" isOpen note={Object.keys(one.parameters).length}>
          {Object.keys(one.parameters).length > 0 && (
            <button type="button" class="quiet" onClick={() => changeSettings({ parameters: {} })}>Back to defaults</button>
          )}
          {parameters.value.map((parameter) => (
            <ParameterControl key={`${activeThread.value} ${conversation.value.id} ${parameter.name}`} parameter={parameter} model={model} />
          ))}
        </Section>
        <Section title="Tools" note={one.tools.trim() ? 1 : 0}><ToolsEditor /></Section>
        <Section title="Answer by schema" note={one.isSchemaOn ? 1 : 0}><SchemaEditor /></Section>
        <Section title="Presets and links"><Presets /></Section>
      </div>
    </aside>
  );
}

function Panes() {
  return (
    <div class="segments" role="group" aria-label="Pane">
      {conversation.value.threads.map((_, index) => (
        <button key={index} type="button" aria-pressed={activeThread.value === index} onClick={() => (activeThread.value = index)}>
          Pane {index + 1}
        </button>
      ))}
    </div>
  );
}

function Section({ title, isOpen = false, note = 0, children }: {
  title: string; isOpen?: boolean; note?: number; children: preact.ComponentChildren;
}) {
  return (
    <details class="section" open={isOpen}>
      <summary>{title}{note > 0 && <span class="badge" aria-label="changed">{note}</span>}</summary>
      <div class="section-body">{children}</div>
    </details>
  );
}

function price({ prompt, completion }: { prompt: string; completion: string }): string {
  const [asked, answered] = [Number(prompt) * 1e6, Number(completion) * 1e6];
  return asked || answered ? `${dollars(asked)} in, ${dollars(answered)} out per million` : "free";
}
