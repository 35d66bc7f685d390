// A browser with an empty profile, and what tests do with it.
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const SHOTS = fileURLToPath(new URL("../screenshots/", import.meta.url));
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const DEADLINE_MS = 60_000;

/** A context of its own has cookies of its own; what goes wrong in its pages is collected. */
export async function open(base) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ARGUMENTS,
  });
  const context = await browser.newContext({
    baseURL: base,
    viewport: { width: 1440, height: 900 },
    colorScheme: "light",
    permissions: ["clipboard-read", "clipboard-write"],
  });
  context.setDefaultTimeout(DEADLINE_MS);
  const faults = [];
  context.on("page", (page) => {
    page.on("pageerror", (error) => faults.push(`error in the page: ${error.message}`));
    page.on("console", (message) => {
      const text = message.text();
      // A refused request is told by the page itself; what the policy blocks is a fault.
      if (message.type() === "error" && !/Failed to load resource/.test(text))
        faults.push(`console: ${text}`);
    });
  });
  return { browser, context, faults };
}

/** Goes to a path as a link in the page would, without loading the page anew. */
export async function visit(page, path) {
  await page.evaluate((to) => history.pushState({}, "", to), path);
  await page.waitForFunction((to) => location.pathname + location.search === to, path);
}

/** Waits until what was asked for is there, and nothing moves. */
export async function settled(page) {
  await page.waitForLoadState("networkidle").catch(() => undefined);
  await page.waitForFunction(() => document.querySelector('[aria-label="Loading"]') === null);
}

/** What axe finds that is serious, in words. */
export async function accessibility(page, name) {
  // Evaluated, not added as a script: the page's policy forbids those.
  await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`);
  });
  return violations.map((text) => `${name}: ${text}`);
}

/** Both widths in both schemes; says what axe finds in either scheme. */
export async function look(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  const found = [];
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    for (const width of [1440, 390]) {
      await page.setViewportSize({ width, height: width === 390 ? 844 : 900 });
      await settled(page);
      await page.screenshot({ path: `${SHOTS}${name}-${width}-${scheme}.png` });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (overflow > 0) found.push(`${name}: ${overflow} px too wide at ${width}`);
    }
    await page.setViewportSize({ width: 1440, height: 900 });
    found.push(...(await accessibility(page, `${name}, ${scheme}`)));
  }
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
  return found;
}
