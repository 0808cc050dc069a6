/** The symbols of a tile: the scale head and the entropy coder. FORMAT.md sections 6, 7.1 and 7.2. */
import { check } from './errors.js';
import { interpolate } from './layers.js';
import { tablesOf } from './weights.js';

/** What decodes symbols of one model at one quality. */
export class SymbolDecoder {
  /** @param {import('./kernels.js').Kernels} kernels @param {import('./weights.js').Weights} weights @param {number} units quality in hundredths */
  constructor(kernels, weights, units) {
    const { config } = weights;
    check((config.architecture ?? 'main') === 'main', 'ModelError', 'only models of the main architecture are decoded here');
    Object.assign(this, { kernels, run: kernels.run, config, units });
    const { starts, firsts } = tablesOf(weights);
    this.numTables = firsts.length - 1;
    this.starts = kernels.put(Uint32Array, starts);
    this.firsts = kernels.put(Uint32Array, firsts);
    this.head = [0, 1, 2, 3, 4].map((k) => headLayer(kernels, weights, k));
    this.offsets = kernels.put(Float64Array, interpolate(weights, 'scale_head.offsets', units, (value) => Math.floor(value / 10000)));
  }

  /** Decode a tile of h x w positions; returns the addresses and numbers of its symbols. */
  decode(words, h, w) {
    const { kernels, run, config } = this;
    const { hyper_channels: N, latent_channels: M, quality_anchors: A } = config;
    const [rows, columns] = [Math.ceil(h / 4), Math.ceil(w / 4)];
    const [numZ, numY] = [N * rows * columns, M * h * w];
    const z = kernels.reserve(4 * numZ);
    const y = kernels.reserve(4 * numY);
    const isWhole = kernels.within(() => {
      const coder = kernels.reserve(16);
      const payload = kernels.put(Uint32Array, words);
      const indexes = kernels.reserve(4 * numY + 4 * numZ);
      const scratch = [kernels.reserve(4 * (numY + numZ)), kernels.reserve(4 * (numY + numZ)), kernels.reserve(4 * (this.numTables + 1))];
      run.startCoder(coder, payload, words.length);
      const anchor = Math.floor((2 * this.units * (A - 1) + 10000) / 20000);
      const own = kernels.view(Int32Array, indexes, numZ);
      for (let i = 0; i < numZ; i++) own[i] = 64 + anchor * N + Math.floor(i / (rows * columns));
      run.decodeSection(coder, this.starts, this.firsts, this.numTables, indexes, z, numZ, ...scratch);
      this.#scaleIndexes(indexes, z, { rows, columns, h, w });
      run.decodeSection(coder, this.starts, this.firsts, this.numTables, indexes, y, numY, ...scratch);
      return run.isAtEnd(coder);
    });
    check(isWhole, 'DesyncError', 'symbols and payload do not end together');
    return { z, y, numZ, numY };
  }

  /** Write the table index of every symbol of y. */
  #scaleIndexes(indexes, z, { rows, columns, h, w }) {
    const { kernels, run, config } = this;
    const N = config.hyper_channels;
    kernels.within(() => {
      let [a, height, width] = [kernels.reserve(8 * rows * columns * N), rows, columns];
      const [from, to] = [kernels.view(Int32Array, z, N * rows * columns), kernels.view(Float64Array, a, N * rows * columns)];
      for (let c = 0; c < N; c++)
        for (let p = 0; p < rows * columns; p++) to[p * N + c] = 256 * Math.max(-127, Math.min(from[c * rows * columns + p], 127));
      this.head.forEach(({ outputs, inputs, side, weight, bias, shift }, k) => {
        const out = kernels.reserve(8 * height * width * outputs);
        run.scaleLayer(out, a, weight, bias, height, width, inputs, outputs, side, shift, k < 4 ? 1 : 0);
        const isShuffled = k === 1 || k === 3;
        a = isShuffled ? this.#shuffle(out, height, width, N) : out;
        if (isShuffled) [height, width] = [2 * height, 2 * width];
      });
      run.scaleIndexes(indexes, a, this.offsets, width, h, w, config.latent_channels);
    });
  }

  #shuffle(input, h, w, channels) {
    const { kernels } = this;
    const out = kernels.reserve(8 * 4 * h * w * channels);
    const [from, to] = [kernels.view(Float64Array, input, 4 * h * w * channels), kernels.view(Float64Array, out, 4 * h * w * channels)];
    let next = 0;
    for (let i = 0; i < 2 * h; i++)
      for (let j = 0; j < 2 * w; j++) {
        const at = ((i >> 1) * w + (j >> 1)) * 4 * channels + 2 * (i % 2) + (j % 2);
        for (let c = 0; c < channels; c++) to[next++] = from[at + 4 * c];
      }
    return out;
  }
}

function headLayer(kernels, weights, k) {
  const [outputs, inputs, side] = weights.shape(`scale_head.${k}.weight`);
  const values = weights.values(`scale_head.${k}.weight`);
  const packed = new Float64Array(values.length);
  for (let o = 0; o < outputs; o++)
    for (let c = 0; c < inputs; c++)
      for (let d = 0; d < side * side; d++) packed[(d * inputs + c) * outputs + o] = values[(o * inputs + c) * side * side + d];
  return {
    outputs, inputs, side,
    weight: kernels.put(Float64Array, packed),
    bias: kernels.put(Float64Array, weights.values(`scale_head.${k}.bias`)),
    shift: weights.values('scale_head.shifts')[k],
  };
}
