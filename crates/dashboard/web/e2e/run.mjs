// The whole UI in a real browser, against a controller with real nodes.
//
//   A67_URL           the controller, which has no account yet
//   A67_E2E_INVITE    its first administrator's invite
//   A67_E2E_ENROL     a shell command that makes a host a node; it gets the line that the UI shows as $COMMAND
//   A67_E2E_IMAGE     an image that the node has, with busybox in it
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";

import { accessibility, look, open, settled, visit } from "./browser.mjs";

const base = process.env.A67_URL ?? "http://127.0.0.1:6700";
const image = process.env.A67_E2E_IMAGE ?? "web:1";
const NAME = "ann";
const PASSWORD = "correct horse battery";
/** Longest that a page may take on loopback until it can be used. */
const INTERACTIVE_MS = 1_000;
const LOAD_MAX_BYTES = Number(process.env.A67_E2E_LOAD_MAX ?? 250_000);

const { browser, context, faults } = await open(base);
const page = await context.newPage();
const begun = Date.now();
let last = begun;

async function step(name, work) {
  await work();
  console.log(`ok ${((Date.now() - last) / 1000).toFixed(1).padStart(5)} s  ${name}`);
  last = Date.now();
}
const button = (name) => page.getByRole("button", { name, exact: true });
const heading = (name) => page.getByRole("heading", { name, level: 1 });
const found = [];
const seen = async (name) => found.push(...(await look(page, name)));

try {
  await step("the page loads little, and soon", loads);
  await step("the first administrator registers by a link", registers);
  await step("an empty fleet says what to do next", async () => {
    await page.getByText("No nodes yet").waitFor();
    await seen("overview-empty");
  });
  await step("a host becomes a node", addsNode);
  await step("a deployment is made by the form", deploys);
  await step("another is made by YAML, and its crashes are told", crashes);
  await step("its logs are followed and searched", reads);
  await step("the palette finds things", palette);
  await step("pages look well in both schemes and widths", looks);
  await step("a deployment is deleted by its name", deletes);
  await step("signing out in one tab signs out in the other, and one comes back to where one was", signsOut);
  await step("a controller that is away is told", away);
} catch (error) {
  await page
    .screenshot({ path: new URL("../screenshots/failed.png", import.meta.url).pathname })
    .catch(() => undefined);
  console.error(`at ${page.url()}`);
  console.error(faults.join("\n"));
  throw error;
} finally {
  await browser.close();
}
assert.deepEqual(faults, [], "the pages ran without an error, and the policy blocked nothing");
assert.deepEqual(found, [], "axe found nothing serious, and nothing was too wide");
console.log(`all in ${((Date.now() - begun) / 1000).toFixed(0)} s`);

async function loads() {
  const sizes = new Map();
  const client = await context.newCDPSession(page);
  await client.send("Network.enable");
  const urls = new Map();
  client.on("Network.responseReceived", ({ requestId, response }) => urls.set(requestId, response.url));
  client.on("Network.loadingFinished", ({ requestId, encodedDataLength }) =>
    sizes.set(urls.get(requestId), encodedDataLength),
  );
  await page.addInitScript(() => {
    globalThis.shifts = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) globalThis.shifts += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  const from = Date.now();
  await page.goto("/sign-in", { waitUntil: "commit" });
  await button("Sign in").waitFor();
  const took = Date.now() - from;
  await settled(page);
  const total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  const shifts = await page.evaluate(() => globalThis.shifts);
  console.log(
    `   ${total} bytes in ${sizes.size} answers, usable after ${took} ms, layout shift ${shifts.toFixed(3)}`,
  );
  assert.ok(total < LOAD_MAX_BYTES, `${total} bytes`);
  assert.ok(took < INTERACTIVE_MS * Number(process.env.A67_E2E_SLOW ?? 1), `${took} ms`);
  assert.ok(shifts < 0.01, `layout shift ${shifts}`);
  await client.detach();
  await seen("sign-in");
}

async function registers() {
  await page.goto(`/register#invite=${process.env.A67_E2E_INVITE}`);
  await page.getByLabel("Name").fill(NAME);
  await page.getByLabel("Password", { exact: true }).fill("short");
  await button("Make the account").click();
  await page.getByText("At least 12 characters.").waitFor();
  await seen("register");
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await button("Make the account").click();
  await heading("Overview").waitFor();
  const cookies = await context.cookies();
  assert.deepEqual(
    cookies.map(({ name, httpOnly, sameSite, path }) => ({ name, httpOnly, sameSite, path })),
    [{ name: "a67_refresh", httpOnly: true, sameSite: "Strict", path: "/api/v1/auth" }],
  );
  const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  assert.doesNotMatch(stored, /eyJ|a67r_/, "no token is stored where scripts can read it");
}

async function addsNode() {
  await visit(page, "/nodes");
  await button("Add a node").first().click();
  const dialogue = page.getByRole("dialog");
  await dialogue.getByLabel("Labels").fill("zone=a");
  await dialogue.getByRole("button", { name: "Make the token" }).click();
  const command = (await dialogue.locator("pre.code").innerText()).trim();
  assert.match(command, /enrol .*--token/s);
  await dialogue.getByText("waiting").waitFor();
  await seen("add-node");
  const enrol = spawnSync("sh", ["-c", process.env.A67_E2E_ENROL], {
    env: { ...process.env, COMMAND: command },
    stdio: ["ignore", "inherit", "inherit"],
  });
  assert.equal(enrol.status, 0, "the host was enrolled");
  await dialogue.getByRole("link").first().waitFor();
  await dialogue.getByRole("button", { name: "Done" }).click();
  // A busy host may call itself degraded; either way it takes instances.
  await page
    .getByRole("table", { name: "Nodes" })
    .getByText(/^(ready|degraded|failing)$/)
    .first()
    .waitFor();
  await page.getByRole("table", { name: "Nodes" }).getByText("zone=a").first().waitFor();
}

async function deploys() {
  await visit(page, "/deployments");
  await page.getByText("Nothing is deployed").waitFor();
  await visit(page, "/deploy");
  await page.getByLabel("Name", { exact: true }).fill("shop");
  await page.getByLabel("Image").fill("Not an image");
  await button("Deploy").click();
  // What the controller refuses is said at its field.
  await page.getByRole("alert").first().waitFor();
  await page.getByLabel("Image").fill(image);
  await page.getByLabel("Command").fill("sh -c 'while true; do echo a visitor came; sleep 1; done'");
  await page.getByLabel("Copies").fill("3");
  await button("Add a variable").click();
  await page.getByLabel("Name", { exact: true }).last().fill("COLOUR");
  await page.getByLabel("Value").first().fill("blue");
  await seen("deploy-form");
  await button("Deploy").click();
  await heading("shop").waitFor();
  await page.getByText("3 of 3 healthy").waitFor();
}

async function crashes() {
  await visit(page, "/deploy");
  await page.getByText("YAML", { exact: true }).click();
  const editor = page.getByRole("textbox", { name: "YAML" });
  await editor.fill("name: 7");
  await button("Deploy").click();
  await page.getByText("name has to be a text.").waitFor();
  await editor.fill(
    [
      "name: batch",
      `image: ${image}`,
      "command:",
      "  - sh",
      "  - -c",
      "  - echo out of luck; exit 3",
      "",
    ].join("\n"),
  );
  await seen("deploy-yaml");
  await button("Deploy").click();
  await heading("batch").waitFor();
  await page.getByText("degraded").first().waitFor();
  await page.getByRole("table", { name: "Instances of batch" }).getByRole("link").first().click();
  await page.getByRole("tab", { name: "Crash reports" }).click();
  await page.getByText("exited with code 3").first().waitFor();
  await page.getByText("out of luck").first().waitFor();
  await seen("instance-crashes");
}

async function reads() {
  await visit(page, "/deployments");
  await page.getByRole("link", { name: "shop", exact: true }).click();
  await page.getByRole("table", { name: "Instances of shop" }).getByRole("link").first().click();
  await page.getByRole("log").getByText("a visitor came").first().waitFor();
  const count = async () => Number.parseInt(await page.getByText(/^\d+ lines/).innerText(), 10);
  const before = await count();
  await page.waitForFunction(
    (than) =>
      Number.parseInt(
        [...document.querySelectorAll('[role="status"]')]
          .map((one) => one.textContent)
          .find((text) => /^\d+ lines/.test(text)) ?? "0",
        10,
      ) > than,
    before,
  );
  await page.getByLabel("Search in these lines").fill("VISITOR");
  await page.locator("mark").first().waitFor();
  await page.getByLabel("Search in these lines").fill("nobody wrote that");
  await page.getByText("No line has that.").waitFor();
  await page.getByLabel("Search in these lines").fill("");
  const download = page.waitForEvent("download");
  await button("Download these lines").click();
  assert.match((await download).suggestedFilename(), /^shop-.*\.log$/);
}

async function palette() {
  await page.keyboard.press("Control+k");
  await page.getByPlaceholder("Deployments, nodes, instances, pages").fill("audit");
  found.push(...(await accessibility(page, "palette")));
  await page.keyboard.press("Enter");
  await heading("Audit").waitFor();
  await button("Copy as curl").click();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^curl -sS .*\/api\/v1\/audit'$/);
}

async function looks() {
  await seen("audit");
  await visit(page, "/");
  await page.getByText("Nodes ready").waitFor();
  await seen("overview");
  for (const path of ["/nodes", "/deployments", "/operations", "/events"]) {
    await visit(page, path);
    await seen(path.slice(1));
  }
  for (const tab of ["account", "sessions", "tokens", "projects", "accounts", "invites", "registration"]) {
    await visit(page, `/settings?tab=${tab}`);
    await seen(`settings-${tab}`);
  }
  await visit(page, "/nodes");
  await page.getByRole("table", { name: "Nodes" }).getByRole("link").first().click();
  await page.locator(".u-wrap").first().waitFor();
  await seen("node");
  await visit(page, "/deployments");
  await page.getByRole("link", { name: "shop", exact: true }).click();
  await page.getByText("3 of 3 healthy").waitFor();
  await seen("deployment");
  await page.getByRole("table", { name: "Instances of shop" }).getByRole("link").first().click();
  await page.getByRole("log").getByText("a visitor came").first().waitFor();
  await seen("instance-logs");
  await page.getByRole("tab", { name: "Metrics" }).click();
  await page.locator(".u-wrap").first().waitFor();
  await seen("instance-metrics");
  await visit(page, "/operations");
  await page.getByRole("link", { name: "deployment create" }).first().click();
  await page.getByText("What happened in its course").waitFor();
  await seen("operation");
}

async function deletes() {
  await visit(page, "/deployments");
  await page.getByRole("link", { name: "batch", exact: true }).click();
  await button("Delete").click();
  const dialogue = page.getByRole("dialog");
  const sure = dialogue.getByRole("button", { name: "Delete it" });
  assert.ok(await sure.isDisabled());
  await dialogue.getByRole("textbox").fill("batch");
  await seen("confirm");
  await sure.click();
  await heading("Deployments").waitFor();
  await page.getByRole("link", { name: "batch", exact: true }).waitFor({ state: "detached" });
}

async function signsOut() {
  await visit(page, "/nodes");
  const other = await context.newPage();
  await other.goto("/events");
  await other.getByRole("heading", { name: "Events", level: 1 }).waitFor();
  await other.getByRole("button", { name: NAME }).click();
  await other.getByRole("menuitem", { name: "Sign out" }).waitFor();
  found.push(...(await accessibility(other, "account menu")));
  await other.getByRole("menuitem", { name: "Sign out" }).click();
  await other.getByRole("button", { name: "Sign in", exact: true }).waitFor();
  await button("Sign in").waitFor();
  await page.getByText("After signing in you are back where you were.").waitFor();
  assert.deepEqual(await context.cookies(), []);
  await page.getByLabel("Name").fill(NAME);
  await page.getByLabel("Password", { exact: true }).fill("a wrong one of them");
  await button("Sign in").click();
  await page.getByText("Name or password is wrong.").waitFor();
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await button("Sign in").click();
  await heading("Nodes").waitFor();
  // The other tab has the session, too.
  await other.getByRole("heading", { name: "Events", level: 1 }).waitFor();
  await other.close();
}

async function away() {
  await context.setOffline(true);
  await page.getByText("The controller does not answer.").waitFor();
  await seen("away");
  await context.setOffline(false);
  await button("Try now").click();
  await page.getByText("The controller does not answer.").waitFor({ state: "detached" });
  faults.splice(0, faults.length, ...faults.filter((fault) => !/ERR_INTERNET_DISCONNECTED/.test(fault)));
}
