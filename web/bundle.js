/** Makes the page of `caecodec view` from page.html and the modules, without imports: caecodec/view/page.html. */
import { readFileSync, writeFileSync } from 'node:fs';

const HERE = new URL('./', import.meta.url);
const read = (path) => readFileSync(new URL(path, HERE), 'utf8');
export const OUT = new URL('../caecodec/view/page.html', HERE);

/** Return a module and all that it imports as one script, each module after those that it needs. */
export function bundle(entry, done = new Set()) {
  const text = read(`src/${entry}`);
  const needed = [...text.matchAll(/^import .* from '\.\/(.*)';$/gm)].map(([, name]) => name);
  const before = needed.map((name) => (done.has(name) ? '' : bundle(name, done.add(name)))); // one by one: a later one may be needed by this
  const own = text.replace(/^import .*\n/gm, '').replace(/^export (?=async|class|const|function)/gm, '');
  return [...before, own].join('');
}

/** Return the page; what it shows is put in the place of @FILE@ and @WEIGHTS@. */
export function page() {
  const wasm = readFileSync(new URL('src/kernels.wasm', HERE)).toString('base64');
  const data = `{"wasm": "${wasm}", "weights": @WEIGHTS@, "file": @FILE@}`;
  const parts = { '@DATA@': data, '@WORKER@': bundle('worker.js'), '@PAGE@': bundle('page.js') };
  return Object.entries(parts).reduce((text, [name, value]) => text.replace(name, () => value), read('page.html'));
}

if (import.meta.url === `file://${process.argv[1]}`) writeFileSync(OUT, page());
