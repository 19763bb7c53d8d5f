// One request of the reference: its address, its line for curl and its answer, as it comes. The key
// goes into the request and never into what is shown.

import { apiKey } from "../api/key";
import { eventData } from "../api/sse";
import { shellQuoted } from "../code/literals";

export interface Prepared {
  method: string;
  address: string; // from the root of the server
  body: string | FormData | null;
}

export interface Replied {
  status: number;
  headers: [string, string][];
  mediaType: string;
}

const SHOWN_HEADERS = ["content-type", "x-request-id", "x-outrider-attempts", "x-outrider-ignored", "retry-after"];

/** Fill a path; what stands below a model's name may have slashes, as the server reads it. */
export function addressOf(path: string, inPath: Record<string, string>, inQuery: Record<string, string>): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(inPath[name] ?? "").replaceAll("%2F", "/"));
  const query = new URLSearchParams(Object.entries(inQuery).filter(([, value]) => value !== "")).toString();
  return query ? `${filled}?${query}` : filled;
}

export function curlOf({ method, address, body }: Prepared, hasKey: boolean): string {
  const lines = [`curl${method === "GET" ? "" : ` -X ${method}`} ${shellQuoted(location.origin + address)}`];
  if (hasKey) lines.push(`  -H "authorization: Bearer $OUTRIDER_API_KEY"`);
  if (typeof body === "string") lines.push(`  -H 'content-type: application/json'`, `  -d ${shellQuoted(body)}`);
  else if (body) {
    for (const [name, value] of body) {
      lines.push(`  -F ${shellQuoted(typeof value === "string" ? `${name}=${value}` : `${name}=@${value.name}`)}`);
    }
  }
  return lines.join(" \\\n");
}

/** Send it; `show` gets the text so far, piece by piece where the answer is a stream. */
export async function send(
  { method, address, body }: Prepared, signal: AbortSignal, show: (reply: Replied, text: string) => void,
): Promise<void> {
  const headers: Record<string, string> = {};
  if (apiKey.value) headers.authorization = `Bearer ${apiKey.value}`;
  if (typeof body === "string") headers["content-type"] = "application/json";
  const answer = await fetch(address, { method, headers, body, signal });
  const mediaType = (answer.headers.get("content-type") ?? "").split(";")[0]!;
  const found = SHOWN_HEADERS.flatMap((name) => (answer.headers.has(name) ? [[name, answer.headers.get(name)!] as [string, string]] : []));
  const reply = { status: answer.status, headers: found, mediaType };
  show(reply, "");
  if (mediaType === "text/event-stream" && answer.body) {
    let text = "";
    for await (const data of eventData(answer.body)) show(reply, (text += `data: ${data}\n\n`));
    return;
  }
  const text = await answer.text();
  show(reply, mediaType === "application/json" ? indented(text) : text);
}

export function indented(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
