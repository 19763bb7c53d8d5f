import { expect, test } from "vitest";
import { eventData } from "./sse";

function streamOf(parts: string[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const part of parts) controller.enqueue(new TextEncoder().encode(part));
      controller.close();
    },
  });
}

async function read(parts: string[]): Promise<string[]> {
  const found: string[] = [];
  for await (const data of eventData(streamOf(parts))) found.push(data);
  return found;
}

test("events are the same however the stream is cut", async () => {
  const whole = ": hello\n\ndata: {\"a\": \"é\"}\r\n\r\nevent: x\ndata:one\ndata: two\n\ndata: [DONE]\n\n";
  const expected = ['{"a": "é"}', "one\ntwo", "[DONE]"];
  for (let at = 0; at <= whole.length; at++) {
    expect(await read([whole.slice(0, at), whole.slice(at)])).toEqual(expected);
  }
});

test("an event that the end cuts is not given out", async () => {
  expect(await read(["data: 1\n\ndata: 2"])).toEqual(["1"]);
});
