import "./styles/base.css";
import "./styles/shell.css";
import { render } from "preact";
import { routeOf, startRouter } from "./shell/router";
import { ROUTES } from "./shell/routes";
import { Shell } from "./shell/Shell";

void routeOf(ROUTES, location.pathname)?.load().catch(() => undefined); // the shell loads it again, and says so
startRouter(ROUTES);
render(<Shell />, document.getElementById("app")!);
