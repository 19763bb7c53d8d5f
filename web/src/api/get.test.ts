import { afterEach, expect, test, vi } from "vitest";
import { getJson, sendJson } from "./get";
import { setApiKey } from "./key";
import { ProblemError } from "./problems";

afterEach(() => {
  vi.unstubAllGlobals();
  setApiKey("");
});

function answers(status: number, body: string) {
  const fetched = vi.fn(async () => new Response(status === 204 ? null : body, { status }));
  vi.stubGlobal("fetch", fetched);
  return fetched;
}

async function problemFrom(promise: Promise<unknown>) {
  const error = await promise.then(() => null, (reason: unknown) => reason);
  expect(error).toBeInstanceOf(ProblemError);
  return (error as ProblemError).problem;
}

test("an answer comes as what its JSON says, and the key goes along", async () => {
  const fetched = answers(200, '{"data": [1]}');
  setApiKey("sk-1");
  expect(await getJson("/x")).toEqual({ data: [1] });
  expect(fetched).toHaveBeenCalledWith("/x", expect.objectContaining({
    method: "GET", headers: expect.objectContaining({ authorization: "Bearer sk-1" }),
  }));
});

test("a body is sent as JSON, and no answer is null", async () => {
  const fetched = answers(204, "");
  expect(await sendJson("DELETE", "/x", { a: 1 })).toBeNull();
  expect(fetched).toHaveBeenCalledWith("/x", expect.objectContaining({ body: '{"a":1}' }));
});

test("errors of both forms become problems in words", async () => {
  answers(401, '{"error": {"code": 401, "message": "no key"}}');
  expect(await problemFrom(getJson("/x"))).toMatchObject({ kind: "key", detail: "no key" });
  answers(404, '{"error": {"message": "no such model", "type": "x", "param": null, "code": "model_not_found"}}');
  expect(await problemFrom(getJson("/x"))).toMatchObject({ kind: "model", detail: "no such model" });
});

test("what isn't JSON, and a server that is gone, are problems too", async () => {
  answers(200, "<html>");
  expect(await problemFrom(getJson("/x"))).toMatchObject({ kind: "server" });
  answers(502, "<html>");
  expect(await problemFrom(getJson("/x"))).toMatchObject({ kind: "server", detail: "HTTP status 502" });
  vi.stubGlobal("fetch", vi.fn(async () => { throw new TypeError("failed"); }));
  expect(await problemFrom(getJson("/x"))).toMatchObject({ kind: "offline" });
});
