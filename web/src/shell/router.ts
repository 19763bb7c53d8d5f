// Which page is shown. The address is the state: links are ordinary ones, and a click on one that
// leads to a page of ours changes the address without a load. Owns no page and knows none by name.

import { signal } from "@preact/signals";
import type { ComponentType } from "preact";

export interface Route {
  path: string;
  label: string;
  /** Whether the route also shows a path below its own. */
  below: RegExp | null;
  load: () => Promise<{ default: ComponentType<PageProperties> }>;
}

export interface PageProperties {
  /** What of the address lies below the page's own path, decoded: `a/b` of `/models/a/b`. */
  rest: string;
}

export interface Visit {
  path: string;
  number: number; // a second click on the same link is a visit too
}

export const visit = signal<Visit>({ path: location.pathname, number: 0 });

export function routeOf(routes: Route[], path: string): Route | undefined {
  const bare = path.length > 1 ? path.replace(/\/+$/, "") : path;
  return routes.find((route) => route.path === bare || (route.below?.test(path) ?? false));
}

export function restOf(route: Route, path: string): string {
  const rest = path.slice(route.path.length).replace(/^\/+|\/+$/g, "");
  try {
    return decodeURIComponent(rest);
  } catch {
    return rest; // a stray % is part of no name of ours
  }
}

/** Go to an address of this page, as a link does. */
export function navigate(address: string): void {
  const { pathname, search, hash } = new URL(address, location.href);
  const target = pathname + search + hash;
  const here = location.pathname + location.search + location.hash;
  if (target !== here) window.history.pushState(null, "", target);
  arrive();
}

function arrive(): void {
  visit.value = { path: location.pathname, number: visit.value.number + 1 };
}

/** Give where a click leads if that is one of our pages; null lets the browser do what it does. */
export function targetOf(event: MouseEvent, routes: Route[]): string | null {
  const isPlain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!isPlain || event.defaultPrevented || !link?.hasAttribute("href")) return null;
  if (link.hasAttribute("download") || (link.target && link.target !== "_self")) return null;
  const url = new URL(link.href, location.href);
  const isJump = url.hash !== "" && url.pathname === location.pathname && url.search === location.search;
  if (url.origin !== location.origin || isJump || !routeOf(routes, url.pathname)) return null;
  return url.pathname + url.search + url.hash;
}

export function startRouter(routes: Route[]): void {
  document.addEventListener("click", (event) => {
    const target = targetOf(event, routes);
    if (target === null) return;
    event.preventDefault();
    navigate(target);
  });
  window.addEventListener("popstate", arrive);
}
