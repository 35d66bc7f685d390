import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// The UI from here, the API from a controller that runs.
const target = process.env.A67_URL ?? "http://127.0.0.1:6700";
// Under the name that the browser knows: cookies are for pages of the same host only.
const proxy = { "/api": { target, changeOrigin: false } };

export default defineConfig({
  plugins: [react()],
  // The controller puts another nonce into the page each time that it serves it.
  html: { cspNonce: "__CSP_NONCE__" },
  build: {
    target: "es2023",
    // Data URLs for scripts or fonts would need exceptions in the security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy },
  preview: { proxy },
  test: { environment: "happy-dom", include: ["src/**/*.test.{ts,tsx}"], restoreMocks: true },
});
