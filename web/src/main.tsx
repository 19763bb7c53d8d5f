import "./styles/base.css";
import "./styles/shell.css";
import { render } from "preact";
import { startRouter } from "./shell/router";
import { ROUTES } from "./shell/routes";
import { Shell } from "./shell/Shell";

startRouter(ROUTES);
render(<Shell />, document.getElementById("app")!);
