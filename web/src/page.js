/** The page of `caecodec view`: shows the file inside it, and those that are dropped on it. */
import { decode } from './client.js';
import { readHeader } from './container.js';
import { CodecError } from './errors.js';
import { Painting } from './painting.js';

const find = (id) => document.getElementById(id);
const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const { wasm, weights, file } = JSON.parse(find('data').textContent);
const models = Object.fromEntries(Object.entries(weights).map(([digest, text]) => [digest, fromBase64(text)]));
const kernels = fromBase64(wasm);
const source = URL.createObjectURL(new Blob([find('worker').textContent], { type: 'text/javascript' }));
let shown = 0;

async function show(name, bytes) {
  const number = ++shown;
  const isCurrent = () => number === shown;
  const state = (text, isError = false) => isCurrent() && Object.assign(find('state'), { textContent: text, className: isError ? 'error' : '' });
  document.title = name;
  find('name').textContent = name;
  find('save').disabled = true;
  state('decoding …');
  const begin = performance.now();
  try {
    const { digest } = readHeader(bytes);
    if (!models[digest]) throw new CodecError('UnknownModelError', `this page has no weights of its model, ${digest}: open it by caecodec view FILE`);
    let painting;
    const result = await decode(bytes, {
      weights: models[digest],
      wasm: kernels,
      worker: () => new Worker(source),
      onStart: (start) => isCurrent() && (painting = new Painting(find('canvas'), start)),
      onRows: (rows) => isCurrent() && painting.add(rows),
    });
    const bits = (8 * bytes.length) / (result.width * result.height);
    const facts = [`${result.width} × ${result.height}`, `${bytes.length.toLocaleString('en')} bytes`, `${bits.toFixed(2)} bits a pixel`];
    if (result.colorProfile) facts.push(result.colorProfile);
    state([...facts, `${((performance.now() - begin) / 1000).toFixed(1)} s`].join(' · '));
    if (isCurrent()) find('save').disabled = false;
  } catch (error) {
    state(`${error.name}: ${error.message}`, true);
  }
}

const open = async ([first]) => first && show(first.name, new Uint8Array(await first.arrayBuffer()));

find('open').addEventListener('change', ({ target }) => open(target.files));
find('save').addEventListener('click', () =>
  find('canvas').toBlob((blob) => {
    const address = URL.createObjectURL(blob);
    const name = `${find('name').textContent.replace(/\.cae$/i, '')}.png`;
    Object.assign(document.createElement('a'), { href: address, download: name }).click();
    URL.revokeObjectURL(address);
  }, 'image/png'),
);
addEventListener('dragover', (event) => event.preventDefault());
addEventListener('drop', (event) => {
  event.preventDefault();
  open(event.dataTransfer.files);
});
if (file) show(file.name, fromBase64(file.data));
