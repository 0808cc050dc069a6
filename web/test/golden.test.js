/** The decoder agrees with the golden files and the conformance vectors of tests/. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { Script } from 'node:vm';

import { OUT, bundle, page } from '../bundle.js';
import { Decoder, loadWeights } from '../src/index.js';
import { crcOf, laws } from './laws.js';
import { readPng } from './png.js';

const ROOT = new URL('../../', import.meta.url);
const read = (path) => new Uint8Array(readFileSync(new URL(path, ROOT)));
const list = (folder) => readdirSync(new URL(folder, ROOT));
const wasm = read('web/src/kernels.wasm');
const toy = await Decoder.load(read('tests/golden/toy.safetensors'), wasm);
const shipped = {
  psnr: await Decoder.load(read('caecodec/weights/psnr.safetensors'), wasm),
  visual: await Decoder.load(read('caecodec/weights/visual.safetensors'), wasm),
};

for (const [name, law] of laws({ toy, list, read })) test(name, law);

for (const name of list('tests/golden/shipped').filter((name) => /^(psnr|visual).*\.cae$/.test(name)))
  test(`${name} has the symbols and the very pixels of the golden files`, async () => {
    const path = `tests/golden/shipped/${name.slice(0, -4)}`;
    const decoder = shipped[name.split('-')[0]];
    const bytes = read(`${path}.cae`);
    assert.equal(crcOf(decoder.symbols(bytes)), JSON.parse(readFileSync(new URL(`${path}.json`, ROOT))).symbols_crc);
    const expected = readPng(readFileSync(new URL(`${path}.png`, ROOT)));
    if (expected.channels === 2 || expected.channels === 4)
      return assert.rejects(decoder.decode(bytes), { name: 'UnsupportedVersionError' }); // Node decodes no WebP
    const found = await decoder.decode(bytes);
    assert.deepEqual([found.width, found.height], [expected.width, expected.height]);
    const differing = found.data.filter((sample, at) => {
      const [pixel, channel] = [Math.floor(at / 4), at % 4];
      if (channel === 3) return sample !== 255;
      return sample !== expected.data[pixel * expected.channels + (expected.channels === 1 ? 0 : channel)];
    });
    assert.equal(differing.length, 0);
  });

test('weights have the digest that names them', async () => {
  const { digest } = shipped.visual.weights;
  assert.equal(JSON.parse(readFileSync(new URL('tests/golden/shipped/visual-q0.json', ROOT))).digest, digest);
  const changed = read('caecodec/weights/visual.safetensors');
  changed[changed.length - 1] ^= 1;
  assert.notEqual((await loadWeights(changed)).digest, digest);
});

test('the kernels were compiled after their last change', () => {
  const digest = createHash('sha256').update(read('web/src/kernels.c')).digest('hex');
  assert.equal(readFileSync(new URL('web/src/kernels.c.sha256', ROOT), 'utf8').split(' ')[0], digest);
});

test('the page of view is made of these modules', () => {
  assert.equal(readFileSync(OUT, 'utf8'), page());
  for (const entry of ['worker.js', 'page.js']) new Script(bundle(entry).replaceAll('import.meta.url', '""')); // no name is taken twice
});
