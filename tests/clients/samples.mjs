// Prints the samples of code that the web page shows, as JSON: { wire: { language: code } }. The
// arguments are the server's address and the request's body; TypeScript comes out as JavaScript.

import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";

const [origin, body] = process.argv.slice(2);
const load = async (path) => {
  const entryPoints = [fileURLToPath(new URL(`../../web/src/${path}`, import.meta.url))];
  const { outputFiles } = await build({ entryPoints, bundle: true, write: false, format: "esm" });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].text).toString("base64")}`);
};
const { sample, LANGUAGES, WIRES } = await load("code/samples.ts");
const { fieldsByPath } = await load("api/document.ts");
const fields = fieldsByPath(await (await fetch(`${origin}/openapi.json`)).json());

const samples = {};
for (const wire of Object.keys(WIRES)) {
  samples[wire] = {};
  for (const language of Object.keys(LANGUAGES)) {
    const { code } = sample(JSON.parse(body), wire, language, origin, fields);
    samples[wire][language] = language === "typescript" ? (await transform(code, { loader: "ts" })).code : code;
  }
}
console.log(JSON.stringify(samples));
