// The page of `outskirt report` in a browser: node page.mjs CHROMIUM FOLDER-OF-NODE-MODULES REPORT.html [PICTURES]
//
// In both themes, at a desk's width and at a phone's: nothing on the console, nothing asked of any network, nothing wider than the
// window, no violation that axe-core finds; sorting, filtering and arrow keys work; it can be printed. Pictures of it go to the
// folder PICTURES. Exit status 3 where the browser does not start.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const [browserPath, modules, report, pictures] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(modules), "here.js"));
const puppeteer = require("puppeteer-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const address = `file://${path.resolve(report)}`;

let browser;
try {
  // the pages are our own: a root without user namespaces has no sandbox
  browser = await puppeteer.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-gpu"] });
} catch (error) {
  console.error(`the browser does not start: ${String(error.message).split("\n")[0]}`);
  process.exit(3);
}

async function open(width, scheme, bypass = false) {
  const page = await browser.newPage();
  const heard = [];
  page.on("console", (message) => heard.push(message.text()));
  page.on("pageerror", (error) => heard.push(String(error)));
  page.on("request", (request) => {
    if (!/^(file|data):/.test(request.url())) heard.push(`asked for ${request.url()}`);
  });
  await page.setBypassCSP(bypass);
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(address);
  return [page, heard];
}

for (const [name, width, scheme] of [["light", 1280, "light"], ["dark", 1280, "dark"], ["phone", 360, "light"]]) {
  const [page, heard] = await open(width, scheme);
  const sections = await page.$$eval("h2", (all) => all.map((one) => one.textContent));
  for (const wanted of ["What this says", "Scores", "Datasets", "The pictures"]) assert(sections.includes(wanted), wanted);
  assert((await page.$$(".chart svg")).length >= 2, "charts");
  const drawn = await page.$$eval("svg.thumb use", (all) => all.filter((one) => one.getBBox().width > 0).length);
  assert(drawn > 0 && drawn === (await page.$$("svg.thumb")).length, `${drawn} pictures are drawn`);
  assert(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `${name}: wider than ${width}`);
  if (pictures) await page.screenshot({ path: path.join(pictures, `report-${name}.png`), fullPage: name !== "phone" });
  assert.deepEqual(heard, [], name);
  await page.close();

  const [checked] = await open(width, scheme, true);
  await checked.evaluate(axe);
  const violations = await checked.evaluate(async () => (await globalThis.axe.run()).violations.map(
    ({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)} (${nodes.length})`,
  ));
  assert.deepEqual(violations, [], `${name}: axe-core`);
  await checked.close();
}

const [page, heard] = await open(1280, "light");
// numbers the largest first, then the smallest; names from A
const column = (at) => page.$$eval("#h-datasets ~ .scroll[aria-label='Datasets'] tbody tr", (rows, at) => rows.map((row) => {
  const cell = row.cells[at];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
}), at);
const sort = (at) => page.$$eval("#h-datasets ~ .scroll[aria-label='Datasets'] thead button", (all, at) => all[at].click(), at);
const numbers = [...await column(3)].sort((a, b) => b - a);
assert(numbers.length > 1, "datasets to sort");
await sort(3);
assert.deepEqual(await column(3), numbers);
await sort(3);
assert.deepEqual(await column(3), [...numbers].reverse());
await sort(0);
const names = await column(0);
assert.deepEqual(names, [...names].sort((a, b) => a.localeCompare(b)));
assert.equal(await page.$eval("#h-datasets ~ .scroll[aria-label='Datasets'] thead th", (heading) => heading.getAttribute("aria-sort")), "ascending");

// filters
const visible = () => page.$$eval(".cards > li", (all) => all.filter((one) => !one.hidden).map((one) => one.dataset.dataset));
const all = await visible();
await page.select("#f-dataset", all[0]);
const some = await visible();
assert(some.length < all.length && some.every((dataset) => dataset === all[0]), "filtered by dataset");
assert.equal(await page.$eval("#shown", (shown) => shown.textContent), `${some.length} of ${all.length} shown`);
await page.type("#f-from", "1e9");
assert.deepEqual(await visible(), []);
await page.click("#filters button");
await page.waitForFunction((count) => document.getElementById("shown").textContent.startsWith(`${count} of`), {}, all.length);

// the keyboard
await page.focus(".cards > li");
await page.keyboard.press("ArrowRight");
assert.equal(await page.evaluate(() => [...document.querySelectorAll(".cards > li")].indexOf(document.activeElement)), 1);
assert.deepEqual(heard, []);

const printed = await page.pdf({ format: "A4" });
assert(printed.length > 50_000, `${printed.length} bytes printed`);
if (pictures) fs.writeFileSync(path.join(pictures, "report.pdf"), printed);
await browser.close();
console.log(`page: ${numbers.length} datasets sort, ${all.length} pictures filter, both themes, 360 pixels, print, axe-core: nothing wrong`);
