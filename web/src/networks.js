/** From symbols to pixels, for exact models of the main architecture: FORMAT.md sections 7.2 to 7.5 and 7.7. */
import { check } from './errors.js';
import { tablesOf } from './weights.js';

const UNITS = { silu: 23943 / 1824, hardswish: 1 / 6 };
const ACTIVATIONS = { silu: 1, hardswish: 2 };
const HALVES = ['synthesis.project', 'synthesis.up', 'synthesis.patch'];
const ROWS_AT_ONCE = 24;

const stride = (channels) => 4 * Math.ceil(channels / 4);

/** Round half to even, below 2**51 as it stands. */
function rint(value) {
  const large = 2 ** 52;
  if (Math.abs(value) >= large) return value;
  return value < 0 ? value - large + large : value + large - large;
}

/** Return e to the power of a value, by products and sums alone. */
export function exponential(value) {
  const v = value / 1024;
  let e = 1;
  for (let k = 9; k > 0; k--) e = (e * v) / k + 1;
  for (let k = 0; k < 10; k++) e *= e;
  return e;
}

/** A model at one quality, its layers in the memory of the kernels. */
export class Networks {
  /** @param {import('./kernels.js').Kernels} kernels @param {import('./weights.js').Weights} weights @param {number} units */
  constructor(kernels, weights, units) {
    const { config } = weights;
    check((config.architecture ?? 'main') === 'main', 'ModelError', 'only models of the main architecture are decoded here');
    Object.assign(this, { kernels, weights, units, config, run: kernels.run, layers: new Map() });
    const { starts, firsts } = tablesOf(weights);
    this.numTables = firsts.length - 1;
    this.starts = kernels.put(Uint32Array, starts);
    this.firsts = kernels.put(Uint32Array, firsts);
    this.head = [0, 1, 2, 3, 4].map((k) => this.#headLayer(k));
    this.offsets = kernels.put(Float64Array, this.#offsets());
  }

  /** Make ready for pixels; symbols do not need it. */
  preparePixels() {
    const { weights } = this;
    if (this.layers.size) return;
    check(weights.has('exact.synthesis.patch.step'), 'ModelError', 'only exact models are decoded to pixels here');
    this.activation = this.config.activation ?? 'silu';
    const gains = this.#factors('inverse_gain.values');
    this.inverseGain = this.#channels(gains);
    const std = weights.values('latent_std');
    this.meanUnits = this.#channels([...std].map((value, c) => Math.fround(value / gains[c])));
    this.featureGain = this.#channels(this.#factors('mean_features.gain.values'));
    this.synthesisGain = this.#channels(this.#factors('synthesis.gain.values'));
    for (const name of Object.keys(weights.entries)) {
      const [, layer] = /^exact\.(.*)\.step$/.exec(name) ?? [];
      if (layer) this.layers.set(layer, this.#layer(layer));
    }
  }

  /** Decode a tile of h x w positions; returns the addresses of its symbols. */
  symbols(tile, h, w) {
    const { kernels, run, config } = this;
    const { hyper_channels: N, latent_channels: M, quality_anchors: A } = config;
    const [rows, columns] = [Math.ceil(h / 4), Math.ceil(w / 4)];
    const [numZ, numY] = [N * rows * columns, M * h * w];
    const z = kernels.reserve(4 * numZ);
    const y = kernels.reserve(4 * numY);
    const isWhole = kernels.within(() => {
      const coder = kernels.reserve(16);
      const words = kernels.put(Uint32Array, tile.words);
      const indexes = kernels.reserve(4 * numY + 4 * numZ);
      const scratch = [kernels.reserve(4 * (numY + numZ)), kernels.reserve(4 * (numY + numZ)), kernels.reserve(4 * (this.numTables + 1))];
      run.startCoder(coder, words, tile.words.length);
      const anchor = Math.floor((2 * this.units * (A - 1) + 10000) / 20000);
      const own = kernels.view(Int32Array, indexes, numZ);
      for (let i = 0; i < numZ; i++) own[i] = 64 + anchor * N + Math.floor(i / (rows * columns));
      run.decodeSection(coder, this.starts, this.firsts, this.numTables, indexes, z, numZ, ...scratch);
      this.#scaleIndexes(indexes, z, rows, columns, h, w);
      run.decodeSection(coder, this.starts, this.firsts, this.numTables, indexes, y, numY, ...scratch);
      return run.isAtEnd(coder);
    });
    check(isWhole, 'DesyncError', 'symbols and payload do not end together');
    return { z, y, numZ, numY };
  }

  /** Write the y_hat of a tile (h, w, stride) to an address: section 7.3. */
  means(yHat, { z, y }, h, w) {
    const { kernels, run, config } = this;
    const { hyper_channels: N, latent_channels: M, context_channels: W } = config;
    const [rows, columns] = [Math.ceil(h / 4), Math.ceil(w / 4)];
    const joint = stride(M + N);
    kernels.within(() => {
      const input = this.#zeros(rows * columns * stride(N));
      const [from, to] = [kernels.view(Int32Array, z, N * rows * columns), kernels.view(Float32Array, input, rows * columns * stride(N))];
      for (let c = 0; c < N; c++) for (let p = 0; p < rows * columns; p++) to[p * stride(N) + c] = from[c * rows * columns + p];
      let f = this.#upsample('mean_features.up1', input, rows, columns, N);
      this.#block('mean_features.block1', f, 2 * rows, 2 * columns);
      f = this.#upsample('mean_features.up2', f, 2 * rows, 2 * columns, N);
      this.#block('mean_features.block2', f, 4 * rows, 4 * columns);
      run.scaleChannels(f, this.featureGain, 16 * rows * columns, stride(N));
      const context = this.#zeros(h * w * joint);
      const features = this.#zeros(h * w * stride(N));
      const [all, cut, both] = [
        kernels.view(Float32Array, f, 16 * rows * columns * stride(N)),
        kernels.view(Float32Array, features, h * w * stride(N)),
        kernels.view(Float32Array, context, h * w * joint),
      ];
      for (let i = 0; i < h; i++)
        for (let j = 0; j < w; j++) {
          const source = (i * 4 * columns + j) * stride(N);
          cut.set(all.subarray(source, source + stride(N)), (i * w + j) * stride(N));
          both.set(all.subarray(source, source + N), (i * w + j) * joint + M);
        }
      const predicted = kernels.reserve(4 * h * w * stride(M));
      for (let step = 0; step < 4; step++) {
        kernels.within(() => {
          if (step === 0) {
            this.#convolve('mean_context.first', predicted, features, h, w);
          } else {
            const inner = kernels.reserve(4 * h * w * stride(W));
            const spread = kernels.reserve(4 * h * w * stride(W));
            this.#convolve(`mean_context.enter.${step - 1}`, inner, context, h, w);
            this.#convolve('mean_context.spread', spread, inner, h, w);
            this.#block('mean_context.block', spread, h, w);
            this.#convolve('mean_context.leave', predicted, spread, h, w);
          }
          run.exchange(yHat, context, predicted, this.meanUnits, y, h, w, M, stride(M), joint, step);
        });
      }
    });
  }

  /** Positions around a part of the latent that its pixels depend on. */
  get halo() {
    return this.config.latent_blocks + Math.ceil(this.config.decoder_blocks / 2);
  }

  /**
   * Turn the latent (height, width, stride of M) into pixels, some rows of positions at a time: sections 7.4 and 7.5.
   * @param {(levels: Uint8Array, row: number, rows: number) => void} emit takes RGBA rows, 16 of each position
   */
  synthesize(yHat, height, width, isGray, emit) {
    for (let row = 0; row < height; row += ROWS_AT_ONCE) {
      const [top, bottom] = [Math.max(0, row - this.halo), Math.min(height, row + ROWS_AT_ONCE + this.halo)];
      const rows = Math.min(ROWS_AT_ONCE, height - row);
      this.kernels.within(() => this.#slab(yHat, top, bottom, width, row, rows, isGray, emit));
    }
  }

  #slab(yHat, top, bottom, width, row, rows, isGray, emit) {
    const { kernels, run, config } = this;
    const { channels: C, latent_channels: M, latent_blocks: latentBlocks, decoder_blocks: blocks } = config;
    const [h, size] = [bottom - top, stride(M)];
    const scaled = kernels.reserve(4 * h * width * size);
    kernels.view(Float32Array, scaled, h * width * size).set(kernels.view(Float32Array, yHat + 4 * top * width * size, h * width * size));
    run.scaleChannels(scaled, this.inverseGain, h * width, size);
    const g = kernels.reserve(4 * h * width * size);
    this.#convolve('synthesis.project', g, scaled, h, width);
    for (let k = 0; k < latentBlocks; k++) this.#block(`synthesis.latent_blocks.${k}`, g, h, width);
    const wide = this.#upsample('synthesis.up', g, h, width, C);
    run.scaleChannels(wide, this.synthesisGain, 4 * h * width, stride(C));
    for (let k = 0; k < blocks; k++) this.#block(`synthesis.blocks.${k}`, wide, 2 * h, 2 * width);
    const x = kernels.reserve(4 * 4 * rows * width * 192);
    this.#convolve('synthesis.patch', x, wide + 4 * 2 * (row - top) * 2 * width * stride(C), 2 * rows, 2 * width);
    const [pixelRows, pixelColumns] = [16 * rows, 16 * width];
    const levels = kernels.reserve(4 * pixelRows * pixelColumns);
    run.levels(levels, x, 2 * rows, 2 * width, pixelRows, pixelColumns, 4 * pixelColumns, isGray ? 1 : 0);
    emit(kernels.view(Uint8Array, levels, 4 * pixelRows * pixelColumns), 16 * row, pixelRows);
  }

  #zeros(count) {
    const address = this.kernels.reserve(4 * count);
    this.kernels.view(Float32Array, address, count).fill(0);
    return address;
  }

  #upsample(name, input, h, w, channels) {
    const { kernels, run } = this;
    const out = kernels.reserve(4 * 4 * h * w * stride(channels));
    kernels.within(() => {
      const wide = kernels.reserve(4 * h * w * stride(4 * channels));
      this.#convolve(name, wide, input, h, w);
      run.shuffle(out, wide, h, w, stride(4 * channels), channels, stride(channels));
    });
    return out;
  }

  /** Apply a block in place. */
  #block(name, x, h, w) {
    const { kernels, run } = this;
    const size = this.layers.get(`${name}.mix_in`).outStride;
    kernels.within(() => {
      const [inner, space] = [kernels.reserve(4 * h * w * size), kernels.reserve(4 * h * w * size)];
      this.#convolve(`${name}.mix_in`, inner, x, h, w);
      this.#convolve(`${name}.mix_space`, space, inner, h, w);
      this.#convolve(`${name}.mix_out`, inner, space, h, w);
      run.add(x, inner, h * w * size);
    });
    if (!this.layers.has(`${name}.expand`)) return;
    const wide = this.layers.get(`${name}.expand`).outStride;
    for (let row = 0; row < h; row++)
      kernels.within(() => {
        const own = x + 4 * row * w * size;
        const [inner, branch] = [kernels.reserve(4 * w * wide), kernels.reserve(4 * w * size)];
        this.#convolve(`${name}.expand`, inner, own, 1, w);
        this.#convolve(`${name}.contract`, branch, inner, 1, w);
        run.add(own, branch, w * size);
      });
  }

  /** Round, as the layer wants it, and convolve. */
  #convolve(name, out, input, h, w) {
    const { kernels, run } = this;
    const layer = this.layers.get(name);
    check(layer, 'ModelError', `the weights have no layer ${name}`);
    const { inStride, outStride, levels, scale, weight, bias, activation } = layer;
    kernels.within(() => {
      const rounded = kernels.reserve(4 * h * w * inStride);
      run.roundInputs(rounded, input, scale, h * w, inStride, levels, activation);
      if (layer.isDepthwise) {
        run.convolveInSpace(out, rounded, weight, bias, h, w, inStride);
        return;
      }
      if (!layer.inHalves) {
        run.convolve(out, rounded, weight, bias, h * w, inStride, outStride, 0);
        return;
      }
      const low = kernels.reserve(4 * h * w * inStride);
      run.split(rounded, low, h * w * inStride);
      run.convolve(out, rounded, weight, bias, h * w, inStride, outStride, 0);
      run.convolve(out, low, weight, layer.noBias, h * w, inStride, outStride, 1);
    });
  }

  #layer(name) {
    const { kernels, weights } = this;
    const [outputs, perGroup, side] = weights.shape(`${name}.weight`);
    const step = weights.values(`exact.${name}.step`);
    const inputs = step.length;
    const last = name.slice(name.lastIndexOf('.') + 1);
    const isDepthwise = side === 3;
    const inHalves = HALVES.includes(name);
    const isActivated = last === 'mix_space' || last === 'contract';
    const levels = isDepthwise ? 8191 : inHalves ? 16383 : 1023;
    const { W, B } = this.#rounded(name, { step, outputs, perGroup, side, isDepthwise, inHalves, levels });
    const [inStride, outStride] = [stride(inputs), stride(outputs)];
    const packed = isDepthwise ? packSpace(W, outputs) : packAcross(W, outputs, inputs, inStride);
    const padded = new Float64Array(8 * Math.ceil(outputs / 8));
    padded.set(B);
    const unit = isActivated ? UNITS[this.activation] : 1;
    const scale = new Float64Array(inStride);
    step.forEach((value, c) => (scale[c] = unit / value));
    return {
      inStride, outStride, levels, isDepthwise, inHalves,
      weight: kernels.put(Float32Array, packed),
      bias: kernels.put(Float32Array, padded),
      noBias: inHalves ? kernels.put(Float32Array, new Float64Array(padded.length)) : 0,
      scale: last === 'mix_out' ? 0 : kernels.put(Float32Array, scale),
      activation: isActivated ? ACTIVATIONS[this.activation] : 0,
    };
  }

  #rounded(name, { step, outputs, perGroup, side, isDepthwise, inHalves, levels }) {
    const { weights } = this;
    const [W, B] = [weights.values(`${name}.weight`), weights.values(`${name}.bias`)];
    const shift = weights.values(`exact.${name}.shift`);
    const hasTables = weights.has(`${name}.gain.values`);
    const gain = hasTables ? this.#table(`${name}.gain.values`).map(exponential) : undefined;
    const moved = hasTables ? this.#table(`${name}.shift.values`) : undefined;
    const next = name.endsWith('mix_space') ? weights.values(`exact.${name.replace('mix_space', 'mix_out')}.step`) : undefined;
    const kernel = side * side;
    for (let o = 0; o < outputs; o++) {
      const unit = 2 ** shift[o];
      const [factor, divisor] = [gain ? gain[o] : 1, next ? next[o] : 1];
      let size = 0;
      for (let c = 0; c < perGroup; c++)
        for (let k = 0; k < kernel; k++) {
          const at = (o * perGroup + c) * kernel + k;
          const numerator = rint(((W[at] * factor * step[isDepthwise ? o : c]) / divisor) * unit);
          size += Math.abs(numerator);
          W[at] = numerator / unit;
        }
      let numerator = rint(((B[o] * factor + (moved ? moved[o] : 0)) / divisor) * unit);
      if (inHalves) numerator = 128 * rint(numerator / 128);
      const reached = inHalves ? size * 128 + Math.abs(numerator) / 128 : size * levels + Math.abs(numerator);
      check(reached < 2 ** 24, 'ModelError', `layer ${name} has sums that float32 does not hold exactly`);
      B[o] = numerator / unit;
    }
    return { W, B };
  }

  /** Return a table's values at the quality, one a channel. @returns {number[]} */
  #table(name) {
    const [anchors, channels] = this.weights.shape(name);
    const rows = this.weights.values(name);
    const position = this.units * (anchors - 1);
    const low = Math.min(Math.floor(position / 10000), anchors - 2);
    const part = position - 10000 * low;
    return Array.from({ length: channels }, (_, c) => (rows[low * channels + c] * (10000 - part) + rows[(low + 1) * channels + c] * part) / 10000);
  }

  #factors(name) {
    return this.#table(name).map((value) => Math.fround(exponential(value)));
  }

  #channels(values) {
    const padded = new Float64Array(stride(values.length));
    padded.set(values);
    return this.kernels.put(Float32Array, padded);
  }

  #offsets() {
    const [anchors, channels] = this.weights.shape('scale_head.offsets');
    const rows = this.weights.values('scale_head.offsets');
    const low = Math.min(Math.floor((this.units * (anchors - 1)) / 10000), anchors - 2);
    const part = this.units * (anchors - 1) - 10000 * low;
    return Array.from({ length: channels }, (_, c) => Math.floor((rows[low * channels + c] * (10000 - part) + rows[(low + 1) * channels + c] * part) / 10000));
  }

  #headLayer(k) {
    const { kernels, weights } = this;
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

  /** Write the table index of every symbol of y: section 7.2. */
  #scaleIndexes(indexes, z, rows, columns, h, w) {
    const { kernels, run, config } = this;
    const N = config.hyper_channels;
    kernels.within(() => {
      let [a, height, width] = [kernels.reserve(8 * rows * columns * N), rows, columns];
      const [from, to] = [kernels.view(Int32Array, z, N * rows * columns), kernels.view(Float64Array, a, N * rows * columns)];
      for (let c = 0; c < N; c++)
        for (let p = 0; p < rows * columns; p++) to[p * N + c] = 256 * Math.max(-127, Math.min(from[c * rows * columns + p], 127));
      this.head.forEach(({ outputs, inputs, side, weight, bias, shift }, k) => {
        const out = kernels.reserve(8 * height * width * outputs);
        const isShuffled = k === 1 || k === 3;
        run.scaleLayer(out, a, weight, bias, height, width, inputs, outputs, side, shift, k < 4 ? 1 : 0);
        a = isShuffled ? this.#shuffleIntegers(out, height, width, N) : out;
        if (isShuffled) [height, width] = [2 * height, 2 * width];
      });
      run.scaleIndexes(indexes, a, this.offsets, width, h, w, config.latent_channels);
    });
  }

  #shuffleIntegers(input, h, w, channels) {
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

/** (outputs, inputs) -> blocks of 8 outputs, each (inStride, 8). */
function packAcross(W, outputs, inputs, inStride) {
  const packed = new Float64Array(8 * Math.ceil(outputs / 8) * inStride);
  for (let o = 0; o < outputs; o++)
    for (let c = 0; c < inputs; c++) packed[(o - (o % 8)) * inStride + 8 * c + (o % 8)] = W[o * inputs + c];
  return packed;
}

/** (channels, 9) -> (9, stride). */
function packSpace(W, channels) {
  const packed = new Float64Array(9 * stride(channels));
  for (let c = 0; c < channels; c++) for (let k = 0; k < 9; k++) packed[k * stride(channels) + c] = W[9 * c + k];
  return packed;
}
