// A provider of OpenAI's kind on a socket of this machine, which does as it is told: it answers, it
// fails, or it takes a request and says nothing.

import http from "node:http";
import { json } from "./front.mjs";

export async function startUpstream() {
  const upstream = { mood: "fine", asked: 0 };
  const server = http.createServer(async (request, reply) => {
    let body = "";
    for await (const part of request) body += part;
    upstream.asked++;
    if (upstream.mood === "silent") return;
    if (upstream.mood === "broken") return json(reply, 500, { error: { message: "out of order" } });
    if (!JSON.parse(body).stream) return json(reply, 200, whole());
    reply.writeHead(200, { "content-type": "text/event-stream" });
    for (const data of [chunk({ content: "All is " }), chunk({ content: "well." }), chunk({}, "stop")]) {
      reply.write(`data: ${JSON.stringify(data)}\n\n`);
    }
    reply.end("data: [DONE]\n\n");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  upstream.url = `http://127.0.0.1:${server.address().port}/v1`;
  upstream.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return upstream;
}

const USAGE = { prompt_tokens: 9, completion_tokens: 3, total_tokens: 12 };

function whole() {
  const message = { role: "assistant", content: "All is well." };
  return { id: "c", object: "chat.completion", created: 1, model: "up", choices: [{ index: 0, message, finish_reason: "stop" }], usage: USAGE };
}

function chunk(delta, finish_reason = null) {
  const last = finish_reason ? { usage: USAGE } : {};
  return { id: "c", object: "chat.completion.chunk", created: 1, model: "up", choices: [{ index: 0, delta, finish_reason }], ...last };
}
