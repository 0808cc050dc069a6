/** What a decoder agrees with, in Node and in browsers: the golden files and conformance vectors of tests/. */
import { crc32, readFile, readHeader, tilesOf } from '../src/container.js';
import { Layers, stride } from '../src/layers.js';

// Files and vectors about contents that a decoder of symbols does not look into.
const NOT_READ = /^(alpha-(not|wrong)|metadata-(not|plain|stream|empty|bomb)|lossless-image)/;

const fromHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));

function equal(found, expected) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`found ${a}, expected ${b}`);
}

/** Check that something throws an error of this name. */
export function refuses(name, work) {
  let found = 'nothing';
  try {
    work();
  } catch (error) {
    found = error.name;
  }
  equal(found, name);
}

/** Return the CRC-32 of the symbols of all tiles, in hex. */
export function crcOf(tiles) {
  const crc = tiles.flat().reduce((before, symbols) => crc32(new Uint8Array(symbols.buffer), before), 0);
  return crc.toString(16).padStart(8, '0');
}

/** Return weights of one layer, as `Layers` asks for them. */
function weightsOf({ layer, activation, tensors }) {
  const shapeOf = (values) => (Array.isArray(values) ? [values.length, ...shapeOf(values[0])] : []);
  return {
    config: { activation },
    entries: { [`exact.${layer}.step`]: {} },
    has: (name) => name in tensors || name === 'exact.synthesis.patch.step', // which says that a model is exact
    shape: (name) => shapeOf(tensors[name]),
    values: (name) => Float64Array.from(tensors[name].flat(Infinity)),
  };
}

/** Return what a layer makes of x (channels, rows, columns), as lists. */
function convolved(layers, name, x) {
  const { kernels } = layers;
  return kernels.within(() => {
    const [height, width] = [x[0].length, x[0][0].length];
    const { inStride } = layers.get(name);
    const { outputs } = layers.numbers(name);
    const given = new Float32Array(height * width * inStride);
    x.forEach((plane, c) => plane.flat().forEach((value, at) => (given[at * inStride + c] = value)));
    const from = kernels.put(Float32Array, given);
    const made = kernels.zeros(height * width * stride(outputs));
    layers.convolve(name, made, from, height, width);
    const all = kernels.view(Float32Array, made, height * width * stride(outputs));
    const at = (c, i, j) => all[(i * width + j) * stride(outputs) + c];
    return Array.from({ length: outputs }, (_, c) => Array.from({ length: height }, (_, i) => Array.from({ length: width }, (_, j) => at(c, i, j))));
  });
}

/**
 * Return what is to be checked, by name.
 * @param {{toy: import('../src/index.js').Decoder, list: (folder: string) => string[], read: (path: string) => Uint8Array}} given paths are below the repository
 * @returns {Array<[string, () => void]>}
 */
export function laws({ toy, list, read }) {
  const json = (path) => JSON.parse(new TextDecoder().decode(read(path)));
  const vectors = (name) => json(`tests/vectors/${name}.json`);
  const golden = list('tests/golden/decode').filter((name) => name.endsWith('.cae'));
  const isRead = ({ name, error }) => !error || !NOT_READ.test(name);
  return [
    ...golden.map((name) => [
      `${name} has the symbols of the golden files`,
      () => equal(crcOf(toy.symbols(read(`tests/golden/decode/${name}`))), json(`tests/golden/decode/${name.replace('.cae', '.json')}`).symbols_crc),
    ]),
    ...Object.entries(json('tests/golden/errors/expected.json'))
      .filter(([name]) => !NOT_READ.test(name))
      .map(([name, error]) => [`${name} is refused`, () => refuses(error, () => toy.symbols(read(`tests/golden/errors/${name}`)))]),
    ...vectors('headers').map(({ name, hex, fields, error }) => [
      `header ${name}`,
      () => {
        if (error) return refuses(error, () => readHeader(fromHex(hex)));
        const { mode, quality, width, height, digest, tile_log2 } = fields;
        equal(readHeader(fromHex(hex), Infinity), { mode, units: quality, width, height, digest, tile: 16 * 2 ** tile_log2 });
      },
    ]),
    ...vectors('boxes').filter(isRead).map(({ name, hex, tiles, error }) => [
      `boxes ${name}`,
      () => {
        if (error) return refuses(error, () => toy.symbols(fromHex(hex)));
        const found = readFile(fromHex(hex)).tiles;
        equal(found.map(({ symbolsCrc, words }) => ({ symbols_crc: symbolsCrc, payload: [...words] })), tiles.map(({ symbols_crc, payload }) => ({ symbols_crc, payload })));
      },
    ]),
    ...vectors('exact_layers').map((vector) => [
      `exact layer ${vector.name}`,
      () => {
        const { layer, units, x, W, B, y } = vector;
        toy.kernels.within(() => {
          const layers = new Layers(toy.kernels, weightsOf(vector), units);
          const found = layers.numbers(layer);
          equal([[...found.W], [...found.B]], [W.flat(Infinity), B]);
          equal(convolved(layers, layer, x), y);
        });
      },
    ]),
    ...Object.entries({ levels: [0, 16384], shift: [-1, 40, 41], step: [0] }).flatMap(([part, values]) => values.map((value) => [
      `an exact layer with a ${part} of ${value} is refused`,
      () => {
        const { tensors, ...vector } = vectors('exact_layers')[0];
        const name = `exact.${vector.layer}.${part}`;
        const changed = { ...tensors, [name]: tensors[name].map(() => value) };
        toy.kernels.within(() => refuses('ModelError', () => new Layers(toy.kernels, weightsOf({ tensors: changed, ...vector }), 0)));
      },
    ])),
    ...vectors('grid').filter(({ stride }) => stride === 16).map(({ name, width, height, tile_log2, tiles }) => [
      `grid ${name}`,
      () => equal(tilesOf({ width, height, tile: 16 * 2 ** tile_log2 }).map(({ row, column }) => [row.first, column.first, row.count, column.count]), tiles),
    ]),
  ];
}
