import { beforeEach, expect, test } from "vitest";
import { navigate, restOf, type Route, routeOf, targetOf, visit } from "./router";

const load = () => Promise.reject(new Error("not loaded here"));
const ROUTES: Route[] = [
  { path: "/", label: "First", below: /^\/chat\//, load },
  { path: "/models", label: "Models", below: /^\/models\/./, load },
];

beforeEach(() => {
  document.body.textContent = "";
  window.history.replaceState(null, "", "/");
});

test("an address leads to its page, and unknown ones to none", () => {
  const found = (path: string) => routeOf(ROUTES, path)?.label;
  expect(["/", "/chat/a-1", "/models", "/models/", "/models/a/b:free"].map(found)).toEqual(["First", "First", "Models", "Models", "Models"]);
  expect(["/model", "/modelsx", "/assets/x.js"].map(found)).toEqual([undefined, undefined, undefined]);
});

test("what lies below a page's path is given to it decoded, and a stray % stays", () => {
  expect(restOf(ROUTES[1]!, "/models/a%20b/c%3Afree/")).toBe("a b/c:free");
  expect(restOf(ROUTES[1]!, "/models/100%")).toBe("100%");
  expect(restOf(ROUTES[1]!, "/models")).toBe("");
});

function clicked(html: string, options: MouseEventInit = {}): string | null {
  const link = document.createElement("a");
  for (const part of html.split(" ")) {
    const [, name, value] = /^(\w+)=?(.*)$/.exec(part)!;
    link.setAttribute(name!, value!);
  }
  document.body.append(link);
  let target: string | null = null;
  const listen = (event: Event) => {
    target = targetOf(event as MouseEvent, ROUTES);
    event.preventDefault();
  };
  document.addEventListener("click", listen, { once: true });
  link.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, ...options }));
  return target;
}

test("only plain clicks on links to pages stay on the page", () => {
  expect(clicked("href=/models?q=1#x")).toBe("/models?q=1#x");
  expect(clicked("href=/models", { ctrlKey: true })).toBeNull();
  expect(clicked("href=/models target=_blank")).toBeNull();
  expect(clicked("href=/models download")).toBeNull();
  expect(clicked("href=/openapi.json")).toBeNull();
  expect(clicked("href=https://elsewhere.example/models")).toBeNull();
  expect(clicked("href=#content")).toBeNull();
});

test("a second click on the same link is a visit, but no step of the history", () => {
  const steps = window.history.length;
  navigate("/models");
  const { number } = visit.value;
  navigate("/models");
  expect(visit.value).toEqual({ path: "/models", number: number + 1 });
  expect(window.history.length).toBe(steps + 1);
});
