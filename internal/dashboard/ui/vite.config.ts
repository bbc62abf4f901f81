import { defineConfig } from "vite";

// The API that `npm run dev` talks to.
const api = process.env.SWITCHBOARD_URL ?? "http://localhost:3000";

export default defineConfig({
  build: {
    outDir: "../dist",
    emptyOutDir: true,
    target: ["chrome123", "edge123", "firefox121", "safari17.5"],
    // The page's content security policy has no data: for scripts and styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    proxy: {
      "/api": api,
      "/docs": api,
      "/openapi.json": api,
      "/socket.io": { target: api, ws: true },
    },
  },
});
