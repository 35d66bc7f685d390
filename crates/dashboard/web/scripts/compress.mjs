// Compresses what was built, and says how much a browser loads at first.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const LIMIT_KB = 250;
const dist = fileURLToPath(new URL("../dist/", import.meta.url));
const gzipped = new Map();
for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || !/\.(js|css|svg|html|woff2)$/.test(entry.name)) continue;
  const path = join(entry.parentPath, entry.name);
  const bytes = readFileSync(path);
  const gzip = gzipSync(bytes, { level: 9 });
  gzipped.set(path.slice(dist.length), gzip.length);
  // The page is never the same twice, so it is served as it is; fonts are compressed already.
  if (/\.(html|woff2)$/.test(entry.name)) continue;
  writeFileSync(`${path}.gz`, gzip);
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
    [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
  };
  writeFileSync(`${path}.br`, brotliCompressSync(bytes, { params }));
}

// What the page names itself, scripts that those import included.
const seen = new Set();
const visit = (name) => {
  if (seen.has(name)) return;
  seen.add(name);
  const text = readFileSync(join(dist, name), "utf8");
  const names = name.endsWith(".html")
    ? [...text.matchAll(/(?:src|href)="\/([^"]+)"/g)].map((match) => match[1])
    : name.endsWith(".css")
      ? // The font's other alphabets are loaded by pages that have their letters.
        [...text.matchAll(/url\(\/(assets\/inter-latin-wght[^)]+)\)/g)].map((match) => match[1])
      : [...text.matchAll(/(?:from|import)\s*"\.\/([^"]+)"/g)].map((match) => `assets/${match[1]}`);
  for (const next of names) if (gzipped.has(next)) visit(next);
};
visit("index.html");
const total = [...seen].reduce((sum, name) => sum + gzipped.get(name), 0) / 1000;
for (const name of seen) console.log(`${(gzipped.get(name) / 1000).toFixed(1).padStart(8)} kB  ${name}`);
console.log(`${total.toFixed(1).padStart(8)} kB  gzipped at first load (limit ${LIMIT_KB} kB)`);
if (total > LIMIT_KB) process.exit(1);
