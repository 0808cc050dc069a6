/** The decoder agrees with the golden files and the conformance vectors of tests/. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

import { crc32, readFile, tilesOf } from '../src/container.js';
import { Decoder, loadWeights, readHeader } from '../src/index.js';
import { readPng } from './png.js';

const ROOT = new URL('../../', import.meta.url);
const read = (path) => new Uint8Array(readFileSync(new URL(path, ROOT)));
const json = (path) => JSON.parse(readFileSync(new URL(path, ROOT), 'utf8'));
const vectors = (name) => json(`tests/vectors/${name}.json`);
const fromHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const wasm = read('web/src/kernels.wasm');
const NOT_READ = /^(alpha-(not|wrong)|metadata-(not|plain|stream|empty|bomb)|lossless-image)/; // contents that a decoder of symbols does not look into

const toy = await Decoder.load(read('tests/golden/toy.safetensors'), wasm);
const shipped = {
  psnr: await Decoder.load(read('caecodec/weights/psnr.safetensors'), wasm),
  visual: await Decoder.load(read('caecodec/weights/visual.safetensors'), wasm),
};

const stems = (folder) =>
  readdirSync(new URL(folder, ROOT))
    .filter((name) => name.endsWith('.cae'))
    .map((name) => name.slice(0, -4));

function crcOf(tiles) {
  const bytes = tiles.flat().map((symbols) => new Uint8Array(symbols.buffer));
  return crc32(Buffer.concat(bytes)).toString(16).padStart(8, '0');
}

for (const stem of stems('tests/golden/decode/'))
  test(`${stem} has the symbols of the golden files`, () => {
    const path = `tests/golden/decode/${stem}`;
    assert.equal(crcOf(toy.symbols(read(`${path}.cae`))), json(`${path}.json`).symbols_crc);
  });

for (const stem of stems('tests/golden/shipped/').filter((name) => !name.startsWith('classic')))
  test(`${stem} has the symbols and the very pixels of the golden files`, async () => {
    const path = `tests/golden/shipped/${stem}`;
    const decoder = shipped[stem.split('-')[0]];
    const bytes = read(`${path}.cae`);
    assert.equal(crcOf(decoder.symbols(bytes)), json(`${path}.json`).symbols_crc);
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

for (const [name, error] of Object.entries(json('tests/golden/errors/expected.json')).filter(([name]) => !NOT_READ.test(name)))
  test(`${name} is refused`, () => {
    assert.throws(() => toy.symbols(read(`tests/golden/errors/${name}`)), { name: error });
  });

for (const { name, hex, fields, error } of vectors('headers'))
  test(`header ${name}`, () => {
    if (error) return assert.throws(() => readHeader(fromHex(hex)), { name: error });
    const found = readHeader(fromHex(hex), Infinity);
    const { mode, quality, width, height, digest, tile_log2 } = fields;
    assert.deepEqual(found, { mode, units: quality, width, height, digest, tile: 16 * 2 ** tile_log2 });
  });

for (const { name, hex, tiles, error } of vectors('boxes').filter(({ name, error }) => !error || !NOT_READ.test(name)))
  test(`boxes ${name}`, () => {
    if (error) return assert.throws(() => toy.symbols(fromHex(hex)), { name: error });
    const found = readFile(fromHex(hex)).tiles;
    assert.deepEqual(found.map(({ symbolsCrc, words }) => ({ symbols_crc: symbolsCrc, payload: [...words] })), tiles);
  });

for (const { name, width, height, tile_log2, stride, tiles } of vectors('grid').filter(({ stride }) => stride === 16))
  test(`grid ${name}`, () => {
    assert.equal(stride, 16);
    const found = tilesOf({ width, height, tile: 16 * 2 ** tile_log2 });
    assert.deepEqual(found.map(({ row, column }) => [row.first, column.first, row.count, column.count]), tiles);
  });

test('weights have the digest that names them', async () => {
  const digest = shipped.visual.weights.digest;
  assert.equal(json('tests/golden/shipped/visual-q0.json').digest, digest);
  const changed = read('caecodec/weights/visual.safetensors');
  changed[changed.length - 1] ^= 1;
  assert.notEqual((await loadWeights(changed)).digest, digest);
});
