/** Files that are not what they should be end in errors by name, soon and in little memory. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

import { Decoder } from '../src/index.js';
import { attackShipped, attackToy, repair } from './attack.js';

const ROOT = new URL('../../', import.meta.url);
const read = (path) => new Uint8Array(readFileSync(new URL(path, ROOT)));
const wasm = read('web/src/kernels.wasm');
const files = (folder, wanted) => readdirSync(new URL(folder, ROOT)).filter((name) => wanted.test(name)).map((name) => read(folder + name));

test('1,750 files of the toy model end in errors by name or in symbols', async () => {
  const toy = await Decoder.load(read('tests/golden/toy.safetensors'), wasm);
  await attackToy(toy, files('tests/golden/decode/', /\.cae$/));
});

test('250 files of a shipped model end in errors by name or in pixels', async () => {
  const visual = await Decoder.load(read('caecodec/weights/visual.safetensors'), wasm);
  await attackShipped(visual, files('tests/golden/shipped/', /^visual-(gray|q0|tiles).*\.cae$/));
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
