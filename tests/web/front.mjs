// A front before the real server, on a socket of its own: it hands everything on, remembers what was
// asked, and answers in the server's place where a test has a script for the next request.

import http from "node:http";

const CHAT = "/api/v1/chat/completions";

export async function startFront(target) {
  const front = { asked: [], script: [], models: null, isDown: false };
  const server = http.createServer(async (request, reply) => {
    const body = await read(request);
    if (front.isDown) return request.socket.destroy();
    const isChat = request.url === CHAT && request.method === "POST";
    if (isChat) front.asked.push(JSON.parse(body.toString()));
    const scripted = isChat ? front.script.shift() : undefined;
    if (scripted) return void scripted(reply, request);
    if (request.url === "/api/v1/models" && front.models) return json(reply, 200, await front.models(target));
    // Models of a test's own are at no host that the server knows.
    if (front.models && /^\/api\/v1\/models\/.+\/endpoints$/.test(request.url)) return json(reply, 200, { data: { endpoints: [] } });
    forward(target, request, body, reply);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  front.url = `http://127.0.0.1:${server.address().port}`;
  front.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return front;
}

function forward(target, request, body, reply) {
  const options = { method: request.method, headers: request.headers, agent: false };
  const onward = http.request(target + request.url, options, (answer) => {
    reply.writeHead(answer.statusCode, answer.headers);
    answer.pipe(reply);
    reply.on("close", () => answer.destroy()); // a stop has to reach the server
  });
  reply.on("close", () => onward.destroy());
  onward.on("error", () => reply.destroy());
  onward.end(body);
}

async function read(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

export function json(reply, status, value) {
  reply.writeHead(status, { "content-type": "application/json" });
  reply.end(JSON.stringify(value));
}

/** Script: stream these pieces of text; then end, or cut the connection in mid-answer. */
export function says(pieces, { cut = false, delta = null } = {}) {
  return async (reply) => {
    reply.writeHead(200, { "content-type": "text/event-stream", "x-outrider-attempts": "first:503,local:200" });
    const send = (choice, more = {}) =>
      reply.write(`data: ${JSON.stringify({ provider: "Scripted", choices: choice ? [choice] : [], ...more })}\n\n`);
    for (const content of [pieces].flat()) {
      send({ delta: { content } });
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    if (cut) {
      await new Promise((resolve) => setTimeout(resolve, 200)); // a browser drops what it hasn't read
      return reply.destroy();
    }
    if (delta) send({ delta });
    send({ delta: {}, finish_reason: delta ? "tool_calls" : "stop" });
    send(null, { usage: { prompt_tokens: 10, completion_tokens: 5, cost: 0.00012 } });
    reply.end("data: [DONE]\n\n");
  };
}

/** Script: refuse with an error of OpenRouter's wire. */
export function refuses(status, message, metadata = {}) {
  return (reply) => json(reply, status, { error: { code: status, message, metadata } });
}
