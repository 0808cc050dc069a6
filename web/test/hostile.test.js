/** Files that are not what they should be end in errors by name, soon and in little memory. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

import { crc32 } from '../src/container.js';
import { CodecError, Decoder } from '../src/index.js';

const ROOT = new URL('../../', import.meta.url);
const read = (path) => new Uint8Array(readFileSync(new URL(path, ROOT)));
const wasm = read('web/src/kernels.wasm');
const files = (folder, wanted) => readdirSync(new URL(folder, ROOT)).filter((name) => wanted.test(name)).map((name) => read(folder + name));
const MAX_PIXELS = 500_000;

/** Return numbers from 0 to below `bound` that are the same in each run. */
function random(seed) {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

/** Return the file with bytes changed, cut, repeated or taken from another one. */
function mutate(bytes, other, draw) {
  const changed = [...bytes];
  for (let times = 1 + draw(4); times; times--) {
    const at = draw(changed.length);
    const kind = draw(5);
    if (kind === 0) changed[at] ^= 1 << draw(8);
    if (kind === 1) changed[at] = [0, 1, 127, 128, 255][draw(5)];
    if (kind === 2) changed.splice(at, 1 + draw(8));
    if (kind === 3) changed.splice(at, 0, ...changed.slice(at, at + 1 + draw(8)));
    if (kind === 4) changed.splice(at, 4, ...other.slice(at, at + 4));
  }
  return Uint8Array.from(changed);
}

/** Make the checksums right again, so that what follows them is reached. */
function repair(bytes) {
  if (bytes.length < 30) return bytes;
  const view = new DataView(bytes.buffer);
  view.setUint32(26, crc32(bytes.subarray(0, 26)), true);
  for (let offset = 30; offset + 8 <= bytes.length; ) {
    const end = offset + 8 + view.getUint32(offset + 4, true);
    if (end + 4 > bytes.length) break;
    view.setUint32(end, crc32(bytes.subarray(offset, end)), true);
    offset = end + 4;
  }
  return bytes;
}

async function attack(count, corpus, decode, seed) {
  const draw = random(seed);
  const outcomes = new Map();
  for (let number = 0; number < count; number++) {
    const bytes = mutate(corpus[draw(corpus.length)], corpus[draw(corpus.length)], draw);
    if (draw(4)) repair(bytes);
    let outcome = 'decoded';
    try {
      await decode(bytes);
    } catch (error) {
      assert.ok(error instanceof CodecError, `file ${number}: ${error.stack}`);
      outcome = error.name;
    }
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  return outcomes;
}

test('1,750 files of the toy model end in errors by name or in symbols', async () => {
  const toy = await Decoder.load(read('tests/golden/toy.safetensors'), wasm);
  const small = files('tests/golden/decode/', /\.cae$/).filter(({ length }) => length < 4000);
  const outcomes = await attack(1750, small, (bytes) => toy.symbols(bytes, { maxPixels: MAX_PIXELS }), 1);
  for (const name of ['TruncatedError', 'ChecksumMismatchError', 'FormatError', 'DesyncError']) assert.ok(outcomes.get(name) > 10, name);
});

test('250 files of a shipped model end in errors by name or in pixels', async () => {
  const visual = await Decoder.load(read('caecodec/weights/visual.safetensors'), wasm);
  const corpus = files('tests/golden/shipped/', /^visual-(gray|q0|tiles).*\.cae$/);
  const outcomes = await attack(250, corpus, (bytes) => visual.decode(bytes, { maxPixels: MAX_PIXELS }), 2);
  assert.ok(outcomes.get('DesyncError') > 10);
  assert.ok(visual.kernels.memory.buffer.byteLength < 2 ** 28);
});

test('an image that is too large for a page is refused before anything is reserved', async () => {
  const visual = await Decoder.load(read('caecodec/weights/visual.safetensors'), wasm);
  const bytes = files('tests/golden/shipped/', /^visual-q0\.cae$/)[0].slice();
  new DataView(bytes.buffer).setUint16(12, 65535, true);
  new DataView(bytes.buffer).setUint16(14, 2000, true);
  const before = visual.kernels.memory.buffer.byteLength;
  await assert.rejects(visual.decode(repair(bytes)), { name: 'LimitExceededError' });
  assert.equal(visual.kernels.memory.buffer.byteLength, before);
});

test('weights that are damaged are refused', async () => {
  const bytes = read('tests/golden/toy.safetensors');
  for (const at of [0, 9, 30]) {
    const changed = bytes.slice();
    changed[at] ^= 85;
    await assert.rejects(Decoder.load(changed, wasm), { name: 'ModelError' });
  }
  await assert.rejects(Decoder.load(bytes.subarray(0, bytes.length - 1), wasm), { name: 'ModelError' });
});
