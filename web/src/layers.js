/** The layers of an exact model at one quality, in the memory of the kernels: FORMAT.md section 7.7. */
import { check } from './errors.js';

const UNITS = { silu: 23943 / 1824, hardswish: 1 / 6 };
const ACTIVATIONS = { silu: 1, hardswish: 2 };
const [MAX_LEVELS, MAX_SHIFT] = [2 ** 14 - 1, 40];
const [SUM_BOUND, WEIGHT_BOUND] = [2 ** 31, 2 ** 15];
export const FLOAT_BOUND = 2 ** 24; // below it float32 holds sums in any order

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
    const { inStride, outStride, isDepthwise, weight, bias, units } = this.get(name);
    kernels.within(() => {
      const rounded = kernels.reserve((isDepthwise ? 4 : 2) * h * w * inStride);
      this.round(name, rounded, input, h * w);
      if (isDepthwise) run.convolveInSpace(out, rounded, weight, bias, h, w, inStride, 0, h);
      else run.convolve(out, rounded, weight, bias, units, h * w, inStride, outStride);
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

  /** Return a layer as its numbers, see `rounded`, and what its inputs are rounded by. `scale` is missing where it is 1. */
  numbers(name) {
    const { weights } = this;
    const [outputs, perGroup, side] = weights.shape(`${name}.weight`);
    const [step, levels, shift] = ['step', 'levels', 'shift'].map((part) => weights.values(`exact.${name}.${part}`));
    const last = name.slice(name.lastIndexOf('.') + 1);
    const isDepthwise = side === 3;
    const inputs = isDepthwise ? outputs : perGroup;
    const isWhole = step.length === inputs && levels.length === 1 && shift.length === outputs;
    check(isWhole, 'ModelError', `the exact form of layer ${name} has the wrong shape`);
    const isInside = levels[0] > 0 && levels[0] <= MAX_LEVELS && shift.every((bits) => bits >= 0 && bits <= MAX_SHIFT) && step.every((size) => size > 0);
    check(isInside, 'ModelError', `the exact form of layer ${name} is beyond its range`);
    const isActivated = last === 'mix_space' || last === 'contract';
    const unit = isActivated ? UNITS[this.activation] : 1;
    const scale = last === 'mix_out' ? undefined : Float32Array.from(step, (value) => unit / value);
    const activation = isActivated ? ACTIVATIONS[this.activation] : 0;
    const kernel = this.#inSteps(name, { step, outputs, perGroup, side, isDepthwise });
    return { inputs, outputs, isDepthwise, levels: levels[0], scale, activation, ...rounded(name, kernel, { levels: levels[0], shift, isDepthwise }) };
  }

  #layer(name) {
    const { kernels } = this;
    const { inputs, outputs, isDepthwise, levels, scale, activation, ...kernel } = this.numbers(name);
    return {
      inStride: stride(inputs),
      outStride: stride(outputs),
      levels,
      isDepthwise,
      scale: scale ? this.channels(scale) : 0,
      activation,
      ...(isDepthwise ? packSpace(kernels, kernel) : packAcross(kernels, kernel)),
    };
  }

  /** Return weights and bias for inputs and outputs in whole steps. */
  #inSteps(name, { step, outputs, perGroup, side, isDepthwise }) {
    const { weights, units } = this;
    const [W, B] = [weights.values(`${name}.weight`), weights.values(`${name}.bias`)];
    const hasTables = weights.has(`${name}.gain.values`);
    const gain = hasTables ? interpolate(weights, `${name}.gain.values`, units).map(exponential) : undefined;
    const moved = hasTables ? interpolate(weights, `${name}.shift.values`, units) : undefined;
    const next = name.endsWith('mix_space') ? weights.values(`exact.${name.replace('mix_space', 'mix_out')}.step`) : undefined;
    const kernel = side * side;
    for (let o = 0; o < outputs; o++) {
      const [factor, divisor] = [gain ? gain[o] : 1, next ? next[o] : 1];
      for (let c = 0; c < perGroup; c++)
        for (let k = 0; k < kernel; k++) {
          const at = (o * perGroup + c) * kernel + k;
          W[at] = (W[at] * factor * step[isDepthwise ? o : c]) / divisor;
        }
      B[o] = (B[o] * factor + (moved ? moved[o] : 0)) / divisor;
    }
    return { W, B };
  }
}

/**
 * Return weights and bias in whole units of each output; these units, which are `2**-bits`; and in them the largest sum of magnitudes of an output's
 * weights, `size`, and what its sums may reach.
 */
function rounded(name, { W, B }, { levels, shift, isDepthwise }) {
  const perOutput = W.length / B.length;
  let [reached, size, largest, largestBias] = [0, 0, 0, 0];
  shift.forEach((bits, o) => {
    B[o] = rint(B[o] * 2 ** bits);
    let own = 0;
    for (let at = o * perOutput; at < (o + 1) * perOutput; at++) {
      W[at] = rint(W[at] * 2 ** bits);
      own += Math.abs(W[at]);
      largest = Math.max(largest, Math.abs(W[at])); // not a number if any is
    }
    largestBias = Math.max(largestBias, Math.abs(B[o]));
    size = Math.max(size, own);
    reached = Math.max(reached, own * levels + Math.abs(B[o]));
  });
  const isHeld = reached < (isDepthwise ? FLOAT_BOUND : SUM_BOUND) && largest < WEIGHT_BOUND && largestBias < FLOAT_BOUND;
  check(isHeld, 'ModelError', `layer ${name} has weights, biases or sums beyond their bounds`);
  return { W, B, units: shift.map((bits) => 2 ** -bits), size, reached };
}

/** Put weights (outputs, inputs) as blocks of 8 outputs, each (inStride / 2, 8, 2). */
function packAcross(kernels, { W, B, units }) {
  const outputs = B.length;
  const inputs = W.length / outputs;
  const size = 8 * Math.ceil(outputs / 8);
  const weight = new Int16Array(size * stride(inputs));
  for (let o = 0; o < outputs; o++)
    for (let c = 0; c < inputs; c++) weight[(o - (o % 8)) * stride(inputs) + 8 * (c - (c % 2)) + 2 * (o % 8) + (c % 2)] = W[o * inputs + c];
  const [bias, scale] = [new Int32Array(size), new Float32Array(size)];
  bias.set(B);
  scale.set(units);
  return { weight: kernels.put(Int16Array, weight), bias: kernels.put(Int32Array, bias), units: kernels.put(Float32Array, scale) };
}

/** Put weights (channels, 9) as (9, stride). */
function packSpace(kernels, { W, B, units }) {
  const channels = B.length;
  const [weight, bias] = [new Float32Array(9 * stride(channels)), new Float32Array(stride(channels))];
  for (let c = 0; c < channels; c++) {
    bias[c] = B[c] * units[c];
    for (let k = 0; k < 9; k++) weight[k * stride(channels) + c] = W[9 * c + k] * units[c];
  }
  return { weight: kernels.put(Float32Array, weight), bias: kernels.put(Float32Array, bias) };
}
