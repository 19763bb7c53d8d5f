// A link to what the server gives as CSV. A link carries no key, so with one the page fetches the
// file and hands it on.

import { apiKey } from "../api/key";
import { download } from "../ui/download";
import { tell } from "../ui/state";

export function CsvLink({ what, query }: { what: "usage" | "latency" | "errors"; query: string }) {
  const address = `/outrider/v1/statistics/${what}?${query}&format=csv`;
  const name = `outrider-${what}.csv`;
  const fetchIt = (event: Event) => {
    if (!apiKey.value) return;
    event.preventDefault();
    void save(address, name);
  };
  return <a class="csv" href={address} download={name} onClick={fetchIt} aria-label={`Download ${what} as CSV`}>CSV</a>;
}

async function save(address: string, name: string): Promise<void> {
  try {
    const reply = await fetch(address, { headers: { authorization: `Bearer ${apiKey.value}` } });
    if (!reply.ok) throw new Error(String(reply.status));
    download(name, await reply.text(), "text/csv");
  } catch {
    tell("The server didn’t give the file");
  }
}
