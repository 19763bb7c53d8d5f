import "./styles/base.css";
import "./styles/layout.css";
import "./styles/chat.css";
import "./styles/panels.css";
import { effect } from "@preact/signals";
import { render } from "preact";
import { loadModels, models } from "./api/models";
import { loadParameters } from "./api/parameters";
import { App } from "./app";
import { settleHistory } from "./chat/send";
import { settingsFromHash } from "./chat/share";
import { chooseModels, loadHistory, startConversation } from "./chat/store";
import { tell } from "./ui/state";

render(<App />, document.getElementById("app")!);

void loadModels();
void loadParameters().catch(() => undefined); // the problem of the models says the same
await loadHistory();
settleHistory();

if (location.hash.startsWith("#settings=")) {
  const settings = settingsFromHash(location.hash);
  window.history.replaceState(null, "", "/");
  if (settings) startConversation(settings);
  else tell("The link is damaged; nothing was changed");
}

effect(() => {
  if (models.value.length) chooseModels();
});
