import { defineConfig } from "vitest/config";

// Where `npm run dev` finds the API: the local host's own port, unless told.
const api = process.env["ENVIROMON_API"] ?? "http://127.0.0.1:7071";

export default defineConfig({
  base: "./", // the page works wherever index.html lies
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // a strict Content-Security-Policy allows no data: addresses
  },
  server: { proxy: { "/api": { target: api, headers: { Origin: api } } } },
  test: { include: ["tests/**/*.test.ts"] },
});
