// Builds the page into the Python package, each text file also gzip and brotli compressed, since
// the server has nothing that compresses. Nothing is inlined: the policy forbids data: scripts.

import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

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

export default defineConfig({
  plugins: [compressed],
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
