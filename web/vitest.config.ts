// Tests of what needs no browser; those in a browser are in ../tests/web.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { environment: "jsdom", include: ["src/**/*.test.ts"] },
});
