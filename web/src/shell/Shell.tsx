// What every page has: a link past the navigation, the navigation, the page, the dialog for a key
// and short notices. The focus goes to a page that is come to, so a screen reader reads on there.

import type { ComponentType } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Problem } from "../api/problems";
import { KeyDialog } from "../ui/KeyDialog";
import { PageButtons } from "../ui/PageButtons";
import { ProblemCard } from "../ui/ProblemCard";
import { notice, open } from "../ui/state";
import { type PageProperties, restOf, type Route, routeOf, visit } from "./router";
import { ROUTES } from "./routes";
import { setTitle } from "./title";

const UNLOADED: Problem = {
  kind: "server",
  title: "This page couldn't be loaded",
  detail: "The server doesn't answer, or it has been updated since this tab was opened.",
};

export function Shell() {
  const { path } = visit.value;
  const route = routeOf(ROUTES, path);
  return (
    <>
      <a class="skip" href="#content" onClick={skip}>Skip to the content</a>
      <Bar current={route} />
      {route ? <Page key={route.path} route={route} rest={restOf(route, path)} /> : <Nowhere path={path} />}
      {open.value === "keys" && <KeyDialog />}
      <div class="notice" role="status" data-shown={notice.value !== ""}>{notice.value}</div>
    </>
  );
}

function Bar({ current }: { current: Route | undefined }) {
  const links = useRef<HTMLElement>(null);
  useEffect(() => {
    // Where the links don't fit, the current one may lie beyond the edge.
    const link = links.current?.querySelector<HTMLElement>("[aria-current]");
    if (link) links.current!.scrollLeft = link.offsetLeft - links.current!.clientWidth / 2;
  }, [current]);
  return (
    <header class="bar">
      <a class="wordmark" href="/">Outrider</a>
      <nav aria-label="Pages" ref={links}>
        {ROUTES.map(({ path, label }) => (
          <a key={path} href={path} aria-current={current?.path === path ? "page" : undefined}>{label}</a>
        ))}
      </nav>
      <PageButtons />
    </header>
  );
}

function Page({ route, rest }: { route: Route; rest: string }) {
  // In an object, since a state's setter would call a component.
  const [loaded, setLoaded] = useState<{ page: ComponentType<PageProperties> | null }>({ page: null });
  const [isFailed, setFailed] = useState(false);
  useLayoutEffect(() => { // not after the next picture: a first visitor waits for the page
    let isCurrent = true;
    setTitle(route.path === "/" ? "" : route.label); // a page may say more about what it shows
    route.load().then(
      (module) => isCurrent && setLoaded({ page: module.default }),
      () => isCurrent && setFailed(true),
    );
    return () => {
      isCurrent = false;
    };
  }, [route]);
  const { number } = visit.value;
  useEffect(() => {
    if (loaded.page && number > 0) arrive();
  }, [loaded.page, rest, number]);
  const Content = loaded.page;
  if (Content) return <Content rest={rest} />;
  return (
    <main class="page" id="content" tabIndex={-1} aria-busy={!isFailed}>
      {isFailed && (
        <ProblemCard problem={UNLOADED}>
          <button type="button" class="primary" onClick={() => location.reload()}>Load it again</button>
        </ProblemCard>
      )}
    </main>
  );
}

function Nowhere({ path }: { path: string }) {
  return (
    <main class="page" id="content" tabIndex={-1}>
      <h1>Nothing is here</h1>
      <p>There is no page at <code>{path}</code>. <a href="/">Go to the playground</a></p>
    </main>
  );
}

function arrive(): void {
  window.scrollTo(0, 0);
  const content = document.getElementById("content");
  // A page may have put the focus where one writes.
  if (!content?.contains(document.activeElement)) content?.focus({ preventScroll: true });
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("content")?.focus();
}
