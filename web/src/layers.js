/** The layers of an exact model at one quality, in the memory of the kernels: FORMAT.md section 7.7. */
import { check } from './errors.js';

const UNITS = { silu: 23943 / 1824, hardswish: 1 / 6 };
const ACTIVATIONS = { silu: 1, hardswish: 2 };
const HALVES = ['synthesis.project', 'synthesis.up', 'synthesis.patch'];

/** Return the floats between two positions of features with so many channels. */
export const stride = (channels) => 4 * Math.ceil(channels / 4);

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

/** Return a table's values at a quality in hundredths, one a channel. @returns {number[]} */
export function interpolate(weights, name, units, finish = (value) => value / 10000) {
  const [anchors, channels] = weights.shape(name);
  const rows = weights.values(name);
  const position = units * (anchors - 1);
  const low = Math.min(Math.floor(position / 10000), anchors - 2);
  const part = position - 10000 * low;
  return Array.from({ length: channels }, (_, c) => finish(rows[low * channels + c] * (10000 - part) + rows[(low + 1) * channels + c] * part));
}

/** All convolutions that means and pixels come from. */
export class Layers {
  /** @param {import('./kernels.js').Kernels} kernels @param {import('./weights.js').Weights} weights @param {number} units quality in hundredths */
  constructor(kernels, weights, units) {
    check(weights.has('exact.synthesis.patch.step'), 'ModelError', 'only exact models are decoded to pixels here');
    Object.assign(this, { kernels, run: kernels.run, weights, units, activation: weights.config.activation ?? 'silu', layers: new Map() });
    for (const name of Object.keys(weights.entries)) {
      const [, layer] = /^exact\.(.*)\.step$/.exec(name) ?? [];
      if (layer) this.layers.set(layer, this.#layer(layer));
    }
  }

  has(name) {
    return this.layers.has(name);
  }

  get(name) {
    check(this.has(name), 'ModelError', `the weights have no layer ${name}`);
    return this.layers.get(name);
  }

  /** Return the factors of a quality table, float32. */
  factors(name) {
    return interpolate(this.weights, name, this.units).map((value) => Math.fround(exponential(value)));
  }

  /** Return the address of a value per channel. */
  channels(values) {
    const padded = new Float64Array(stride(values.length));
    padded.set(values);
    return this.kernels.put(Float32Array, padded);
  }

  /** Round what a layer is given as it wants it: floats for one in space, 16-bit integers for others. */
  round(name, out, input, positions) {
    const { inStride, levels, scale, activation, isDepthwise } = this.get(name);
    const round = isDepthwise ? this.run.roundToFloats : this.run.roundToInts;
    round(out, input, scale, positions, inStride, levels, activation);
  }

  /** Round and convolve, at h x w positions. */
  convolve(name, out, input, h, w) {
    const { kernels, run } = this;
    const { inStride, outStride, isDepthwise, weight, high, bias, units } = this.get(name);
    kernels.within(() => {
      const rounded = kernels.reserve((isDepthwise ? 4 : 2) * h * w * inStride);
      this.round(name, rounded, input, h * w);
      if (isDepthwise) run.convolveInSpace(out, rounded, weight, bias, h, w, inStride, 0, h);
      else run.convolve(out, rounded, weight, high, bias, units, h * w, inStride, outStride);
    });
  }

  /** Convolve to 4 times the channels and move them to twice the rows and columns; returns the address. */
  upsample(name, input, h, w, channels) {
    const { kernels, run } = this;
    const out = kernels.reserve(4 * 4 * h * w * stride(channels));
    kernels.within(() => {
      const wide = kernels.reserve(4 * h * w * stride(4 * channels));
      this.convolve(name, wide, input, h, w);
      run.shuffle(out, wide, h, w, stride(4 * channels), channels, stride(channels));
    });
    return out;
  }

  /** Apply a block in place. */
  block(name, x, h, w) {
    const { kernels, run } = this;
    const size = this.get(`${name}.mix_in`).outStride;
    kernels.within(() => {
      const [inner, space] = [kernels.reserve(4 * h * w * size), kernels.reserve(4 * h * w * size)];
      this.convolve(`${name}.mix_in`, inner, x, h, w);
      this.convolve(`${name}.mix_space`, space, inner, h, w);
      this.convolve(`${name}.mix_out`, inner, space, h, w);
      run.add(x, inner, h * w * size);
    });
    this.widen(name, x, h, w);
  }

  /** Add the second branch of a block, if it has one, row by row. */
  widen(name, x, h, w) {
    const { kernels, run } = this;
    if (!this.has(`${name}.expand`)) return;
    const { inStride: size, outStride: wide } = this.get(`${name}.expand`);
    kernels.within(() => {
      const [inner, branch] = [kernels.reserve(4 * w * wide), kernels.reserve(4 * w * size)];
      for (let row = 0; row < h; row++) {
        const own = x + 4 * row * w * size;
        this.convolve(`${name}.expand`, inner, own, 1, w);
        this.convolve(`${name}.contract`, branch, inner, 1, w);
        run.add(own, branch, w * size);
      }
    });
  }

  /**
   * Return a layer as its numbers: weights (outputs, inputs, or 9 if depthwise) and bias in whole units of each output,
   * these units, and what its inputs are rounded by; `scale` is missing where it is 1.
   */
  numbers(name) {
    const { weights } = this;
    const [outputs, perGroup, side] = weights.shape(`${name}.weight`);
    const step = weights.values(`exact.${name}.step`);
    const inputs = step.length;
    const last = name.slice(name.lastIndexOf('.') + 1);
    const isDepthwise = side === 3;
    const inHalves = HALVES.includes(name);
    const isActivated = last === 'mix_space' || last === 'contract';
    const levels = isDepthwise ? 8191 : inHalves ? 16383 : 1023;
    const unit = isActivated ? UNITS[this.activation] : 1;
    const scale = last === 'mix_out' ? undefined : Float32Array.from(step, (value) => unit / value);
    const activation = isActivated ? ACTIVATIONS[this.activation] : 0;
    const rounded = this.#rounded(name, { step, outputs, perGroup, side, isDepthwise, inHalves, levels });
    return { inputs, outputs, isDepthwise, inHalves, levels, scale, activation, ...rounded };
  }

  #layer(name) {
    const { kernels } = this;
    const { inputs, outputs, isDepthwise, levels, scale, activation, W, B, units } = this.numbers(name);
    return {
      inStride: stride(inputs),
      outStride: stride(outputs),
      levels,
      isDepthwise,
      scale: scale ? this.channels(scale) : 0,
      activation,
      ...(isDepthwise ? packSpace(kernels, W, B, units) : packAcross(kernels, W, B, units)),
    };
  }

  /** Return weights and bias in whole units of each output, and these units. */
  #rounded(name, { step, outputs, perGroup, side, isDepthwise, inHalves, levels }) {
    const { weights, units } = this;
    const [W, B] = [weights.values(`${name}.weight`), weights.values(`${name}.bias`)];
    const shift = weights.values(`exact.${name}.shift`);
    const hasTables = weights.has(`${name}.gain.values`);
    const gain = hasTables ? interpolate(weights, `${name}.gain.values`, units).map(exponential) : undefined;
    const moved = hasTables ? interpolate(weights, `${name}.shift.values`, units) : undefined;
    const next = name.endsWith('mix_space') ? weights.values(`exact.${name.replace('mix_space', 'mix_out')}.step`) : undefined;
    const kernel = side * side;
    const oneUnit = Float64Array.from(shift, (bits) => 2 ** -bits);
    for (let o = 0; o < outputs; o++) {
      const unit = 2 ** shift[o];
      const [factor, divisor] = [gain ? gain[o] : 1, next ? next[o] : 1];
      let size = 0;
      for (let c = 0; c < perGroup; c++)
        for (let k = 0; k < kernel; k++) {
          const at = (o * perGroup + c) * kernel + k;
          const numerator = rint(((W[at] * factor * step[isDepthwise ? o : c]) / divisor) * unit);
          size += Math.abs(numerator);
          W[at] = numerator;
        }
      let numerator = rint(((B[o] * factor + (moved ? moved[o] : 0)) / divisor) * unit);
      if (inHalves) numerator = 128 * rint(numerator / 128);
      const reached = inHalves ? size * 128 + Math.abs(numerator) / 128 : size * levels + Math.abs(numerator);
      check(reached < 2 ** 24, 'ModelError', `layer ${name} has sums that float32 does not hold exactly`);
      B[o] = numerator;
    }
    return { W, B, units: oneUnit };
  }
}

/** Put weights (outputs, inputs) as blocks of 8 outputs, each (inStride / 2, 8, 2). */
function packAcross(kernels, W, B, units) {
  const outputs = B.length;
  const inputs = W.length / outputs;
  const size = 8 * Math.ceil(outputs / 8);
  const [weight, high] = [new Int16Array(size * stride(inputs)), new Int16Array(size * stride(inputs))];
  const isLarge = W.some((value) => Math.abs(value) > 32767);
  for (let o = 0; o < outputs; o++)
    for (let c = 0; c < inputs; c++) {
      const at = (o - (o % 8)) * stride(inputs) + 8 * (c - (c % 2)) + 2 * (o % 8) + (c % 2);
      const value = W[o * inputs + c];
      if (isLarge) high[at] = Math.floor(value / 256);
      weight[at] = value - 256 * high[at];
    }
  const [bias, scale] = [new Int32Array(size), new Float32Array(size)];
  bias.set(B);
  scale.set(units);
  return {
    weight: kernels.put(Int16Array, weight),
    high: isLarge ? kernels.put(Int16Array, high) : 0,
    bias: kernels.put(Int32Array, bias),
    units: kernels.put(Float32Array, scale),
  };
}

/** Put weights (channels, 9) as (9, stride). */
function packSpace(kernels, W, B, units) {
  const channels = B.length;
  const [weight, bias] = [new Float32Array(9 * stride(channels)), new Float32Array(stride(channels))];
  for (let c = 0; c < channels; c++) {
    bias[c] = B[c] * units[c];
    for (let k = 0; k < 9; k++) weight[k * stride(channels) + c] = W[9 * c + k] * units[c];
  }
  return { weight: kernels.put(Float32Array, weight), bias: kernels.put(Float32Array, bias) };
}
