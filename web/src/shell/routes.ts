// The pages, in the order of the navigation. Each is a chunk of its own, loaded when it is visited.

import type { Route } from "./router";

export const ROUTES: Route[] = [
  { path: "/", label: "Playground", below: /^\/chat\//, load: () => import("../pages/PlaygroundPage") },
  { path: "/models", label: "Models", below: /^\/models\/./, load: () => import("../pages/ModelsPage") },
  { path: "/stats", label: "Statistics", below: null, load: () => import("../pages/StatsPage") },
  { path: "/admin", label: "Admin", below: /^\/admin\/./, load: () => import("../pages/AdminPage") },
  { path: "/docs", label: "API", below: /^\/docs\/./, load: () => import("../pages/DocsPage") },
];
