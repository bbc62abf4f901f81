import { defineConfig } from "vite";

// The unit tests, bundled for `node --test`: they need no browser.
export default defineConfig({
  build: {
    ssr: "test/unit.ts",
    outDir: "node_modules/.test",
    emptyOutDir: true,
    target: "node20",
    rolldownOptions: { output: { entryFileNames: "unit.test.mjs" } },
  },
  logLevel: "warn",
});
