// Builds the page into the Python package, each text file also gzip and brotli compressed, since
// the server has nothing that compresses. Nothing is inlined: the policy forbids data: scripts.

import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { defineConfig, type Plugin, type Rollup } from "vite";

const OUT = new URL("../src/outrider/web", import.meta.url).pathname;

function filesOf(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? filesOf(path) : [path];
  });
}

const compressed: Plugin = {
  name: "compressed",
  apply: "build",
  closeBundle() {
    for (const path of filesOf(OUT)) {
      if (!/\.(js|css|html|svg)$/.test(path)) continue;
      const content = readFileSync(path);
      writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
      writeFileSync(`${path}.br`, brotliCompressSync(content));
    }
  },
};

// A page's own file of HTML names the chunks that its page needs, so that a browser fetches all of
// them at once and not one after the other: index.html is the playground's, models.html that of
// ModelsPage, and so on.
const preloading: Plugin = {
  name: "preloading",
  apply: "build",
  enforce: "post",
  generateBundle(_, bundle) {
    const html = bundle["index.html"];
    if (html?.type !== "asset") throw new Error("the build has no index.html");
    const shell = String(html.source);
    for (const chunk of Object.values(bundle)) {
      const name = chunk.type === "chunk" && /\/src\/pages\/(\w+)Page\.tsx$/.exec(chunk.facadeModuleId ?? "")?.[1];
      if (!name) continue;
      const links = linksOf(chunk as Rollup.OutputChunk, bundle).filter((link) => !shell.includes(link.href));
      const source = shell.replace("</head>", `${links.map(({ tag }) => tag).join("")}</head>`);
      if (name === "Playground") html.source = source;
      else this.emitFile({ type: "asset", fileName: `${name.toLowerCase()}.html`, source });
    }
  },
};

function linksOf(chunk: Rollup.OutputChunk, bundle: Rollup.OutputBundle): { href: string; tag: string }[] {
  const chunks = [chunk, ...chunk.imports.flatMap((name) => (bundle[name]?.type === "chunk" ? [bundle[name]] : []))];
  const scripts = chunks.map(({ fileName }) => ({ href: `/${fileName}`, tag: `<link rel="modulepreload" crossorigin href="/${fileName}">` }));
  const styles = chunks.flatMap(({ viteMetadata }) => [...(viteMetadata?.importedCss ?? [])])
    .map((name) => ({ href: `/${name}`, tag: `<link rel="preload" as="style" crossorigin href="/${name}">` }));
  return [...scripts, ...styles];
}

export default defineConfig({
  plugins: [preloading, compressed],
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  server: { proxy: { "/v1": API(), "/api": API(), "/openapi.json": API(), "/healthz": API() } },
  build: {
    outDir: OUT,
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    reportCompressedSize: false,
  },
});

function API(): string {
  return "http://127.0.0.1:8000";
}
