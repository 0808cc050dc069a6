/** The synthesis by WebGPU: the same numbers as by WebAssembly, which `GpuSynthesis.make` looks at before it trusts a device. */
import { FLOAT_BOUND, stride } from './layers.js';
import { SHADERS } from './shaders.js';
import { PATCH, POSITIONS_AT_ONCE } from './synthesis.js';

const POSITIONS_A_BAND = 16384; // of the latent, about, those around it included: features take some 250 MB
const PLANES = 3 * PATCH * PATCH;
const PARAMETER_BYTES = 48;
const GROUP = 16; // inputs, and vectors of outputs, that a group of threads takes: see shaders.js
const LOW = 127; // the most that is left of inputs and biases without their upper halves
const CHECKED = 16384; // vectors of values whose activations are looked at
const LARGEST = 2 ** 127; // clamps nothing
const MAGNIFIED = new Float32Array(4).fill(2 ** 40); // so that rounding hides no bit of most

/** A device failed: what it was to make can be made by WebAssembly. */
export class GpuError extends Error {}

/** A device, its programs, and what it does with them. */
export class Gpu {
  /** Return what runs shaders: a GPU or, if `isAny`, a software adapter, too. @returns {Promise<Gpu | undefined>} */
  static async find(isAny) {
    return Gpu.#find(isAny).catch(() => undefined);
  }

  static async #find(isAny) {
    const adapter = await globalThis.navigator?.gpu?.requestAdapter({ powerPreference: 'high-performance' });
    const isSoftware = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter; // where it stands by the browser's age
    if (!adapter || (isSoftware && !isAny)) return undefined;
    const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
    const device = await adapter.requestDevice({ requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } });
    const program = async (name, constants) => {
      const compute = { module: device.createShaderModule({ code: SHADERS[name] }), entryPoint: 'main', constants };
      return [JSON.stringify([name, constants]), await device.createComputePipelineAsync({ layout: 'auto', compute })];
    };
    const programs = await Promise.all([
      ...['round', 'space', 'shuffle'].map((name) => program(name)),
      ...[0, 1, 2, 3].map((flags) => program('convolve', { isAdded: flags & 1, isApart: flags >> 1 })),
    ]);
    return new Gpu(device, new Map(programs));
  }

  constructor(device, programs) {
    Object.assign(this, { device, programs });
  }

  /** Return a buffer of so many bytes. */
  buffer(bytes, usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST) {
    return this.device.createBuffer({ size: bytes, usage });
  }

  /** Return a buffer of numbers. */
  put(numbers, usage) {
    const buffer = this.buffer(numbers.byteLength, usage);
    this.device.queue.writeBuffer(buffer, 0, numbers);
    return buffer;
  }

  /** Do what `record` records, and return what `result` then holds from a byte on. @returns {Promise<ArrayBuffer>} */
  async run(record, result, offset, bytes) {
    const { device } = this;
    const passing = []; // buffers of this run alone
    const into = this.buffer(bytes, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
    passing.push(into);
    for (const filter of ['validation', 'out-of-memory', 'internal']) device.pushErrorScope(filter);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    record((name, constants, parameters, buffers, groups) => {
      const pipeline = this.programs.get(JSON.stringify([name, constants]));
      passing.push(this.put(packed(parameters), GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST));
      const entries = [passing.at(-1), ...buffers].map((buffer, binding) => ({ binding, resource: { buffer } }));
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
      pass.dispatchWorkgroups(...groups);
    });
    pass.end();
    encoder.copyBufferToBuffer(result, offset, into, 0, bytes);
    device.queue.submit([encoder.finish()]);
    try {
      const errors = await Promise.all(Array.from({ length: 3 }, () => device.popErrorScope()));
      const error = errors.find(Boolean);
      if (error) throw error;
      await into.mapAsync(GPUMapMode.READ);
      return into.getMappedRange().slice(0);
    } catch ({ message }) {
      throw new GpuError(message);
    } finally {
      for (const buffer of passing) buffer.destroy();
    }
  }
}

/** Lay parameters out as the shaders have them. */
function packed({ positions, inputs, outputs, pitch, width, height, activation, levels }) {
  const bytes = new ArrayBuffer(PARAMETER_BYTES);
  new Uint32Array(bytes).set([positions, inputs, outputs, pitch, width, height, activation, 0]);
  new Float32Array(bytes)[8] = levels;
  return bytes;
}

/** The synthesis of a model at one quality, as `Synthesis` is. */
export class GpuSynthesis {
  /**
   * Return the synthesis by a GPU, or undefined where its numbers are not those of WebAssembly.
   * @param {Gpu} gpu
   * @param {import('./synthesis.js').Synthesis} other by WebAssembly
   */
  static async make(gpu, other) {
    const own = new GpuSynthesis(gpu, other);
    const isHeld = [...own.own.values()].every((layer) => layer.isHeld);
    if (isHeld && (gpu.isExact ??= await own.#isExact().catch(() => false))) return own;
    own.release();
    return undefined;
  }

  constructor(gpu, other) {
    const { layers, kernels, config, halo } = other;
    Object.assign(this, { gpu, other, layers, kernels, config, halo, positions: POSITIONS_A_BAND });
    const names = [...layers.layers.keys()].filter((name) => name.startsWith('synthesis.'));
    this.own = new Map(names.map((name) => [name, this.#layer(name)]));
    this.gain = gpu.put(padded(layers.factors('synthesis.gain.values'), stride(config.channels)));
  }

  /** Free what the device holds of this quality. */
  release() {
    for (const { scale, weight, bias, unit } of this.own.values()) for (const buffer of [scale, weight, bias, unit]) buffer.destroy();
    this.gain.destroy();
  }

  /** As `Synthesis.paint`. */
  async *paint(yHat, height, width, isGray, reach) {
    const { other, layers, kernels, halo } = this;
    const size = stride(this.config.latent_channels);
    const row = 4 * width * size;
    const atOnce = Math.max(1, Math.floor(this.positions / width) - 2 * halo);
    const features = this.#features(Math.min(height, atOnce + 2 * halo) * width);
    let known = 0;
    try {
      for (let start = 0; start < height; start += atOnce) {
        const end = Math.min(height, start + atOnce);
        const [top, bottom] = [Math.max(0, start - halo), Math.min(height, end + halo)];
        await reach(bottom);
        layers.run.scaleChannels(yHat + known * row, other.inverseGain, (bottom - known) * width, size);
        known = bottom;
        const latent = kernels.view(Float32Array, yHat + top * row, ((bottom - top) * row) / 4);
        const planes = await this.#planes(features, latent, bottom - top, width, start - top, end - start);
        const rowsAtOnce = Math.max(1, Math.round(POSITIONS_AT_ONCE / width));
        for (let first = start; first < end; first += rowsAtOnce) {
          const count = Math.min(rowsAtOnce, end - first);
          const mark = kernels.top;
          const from = kernels.put(Float32Array, planes.subarray((first - start) * 4 * width * PLANES, (first - start + count) * 4 * width * PLANES));
          yield { levels: other.levels(from, 2 * count, 2 * width, isGray), row: 2 * PATCH * first, count: 2 * PATCH * count };
          kernels.top = mark;
        }
      }
    } finally {
      for (const buffer of Object.values(features)) buffer.destroy();
    }
  }

  /** Return buffers for the features of so many positions of the latent: x, what a layer is given of it, and what it makes. */
  #features(positions) {
    const { gpu, own, config } = this;
    let largest = 0;
    for (const [name, { inputs, outputs }] of own) {
      const count = positions * (name.startsWith('synthesis.blocks') || name === 'synthesis.patch' ? 4 : 1);
      largest = Math.max(largest, count * Math.max(inputs, outputs));
    }
    const x = positions * Math.max(stride(config.latent_channels), 4 * stride(config.channels));
    return { x: gpu.buffer(4 * x), given: gpu.buffer(16 * largest), made: gpu.buffer(16 * largest) };
  }

  /** Turn rows of the latent into the planes of patches (rows, width, 192) of those from `first` on. */
  async #planes({ x, given, made }, latent, height, width, first, count) {
    const { gpu, own, config } = this;
    gpu.device.queue.writeBuffer(x, 0, latent);
    const row = 4 * 2 * width * PLANES;
    const found = await gpu.run(
      (dispatch) => {
        const [coarse, fine] = [{ height, width }, { height: 2 * height, width: 2 * width }];
        const convolve = (name, from, to, size, isAdded = false) => {
          const { scale, weight, bias, unit, isDepthwise, isApart, ...layer } = own.get(name);
          const parameters = { ...layer, ...size, positions: size.height * size.width };
          const threads = [Math.ceil((parameters.positions * layer.inputs) / 256)];
          dispatch('round', undefined, parameters, [from, given, scale], threads);
          const buffers = [given, to, weight, bias, unit];
          if (isDepthwise) return dispatch('space', undefined, parameters, buffers, threads);
          const groups = [Math.ceil(parameters.positions / 32), layer.pitch / 16];
          dispatch('convolve', { isAdded: Number(isAdded), isApart: Number(isApart) }, parameters, buffers, groups);
        };
        const block = (name, size) => {
          convolve(`${name}.mix_in`, x, made, size);
          convolve(`${name}.mix_space`, made, made, size);
          convolve(`${name}.mix_out`, made, x, size, true);
          if (!own.has(`${name}.expand`)) return;
          convolve(`${name}.expand`, x, made, size);
          convolve(`${name}.contract`, made, x, size, true);
        };
        convolve('synthesis.project', x, x, coarse);
        for (let k = 0; k < config.latent_blocks; k++) block(`synthesis.latent_blocks.${k}`, coarse);
        convolve('synthesis.up', x, made, coarse);
        const { outputs } = own.get('synthesis.up');
        const parameters = { positions: height * width, inputs: outputs, outputs: stride(config.channels) / 4, ...coarse };
        dispatch('shuffle', undefined, parameters, [made, x, this.gain], [Math.ceil((4 * parameters.positions * parameters.outputs) / 256)]);
        for (let k = 0; k < config.decoder_blocks; k++) block(`synthesis.blocks.${k}`, fine);
        convolve('synthesis.patch', x, made, fine);
      },
      made,
      2 * first * row,
      2 * count * row,
    );
    return new Float32Array(found);
  }

  /** Put a layer where shaders find it; inputs and outputs in vectors of four. */
  #layer(name) {
    const { gpu, layers } = this;
    const { inputs, outputs, isDepthwise, levels, scale, activation, W, B, units, reached, size: ofWeights } = layers.numbers(name);
    const perOutput = W.length / outputs;
    const isApart = reached >= FLOAT_BOUND;
    const size = stride(outputs) / 4;
    const pitch = isDepthwise ? size : GROUP * Math.ceil(size / GROUP);
    const rows = isDepthwise ? 9 : GROUP * Math.ceil(inputs / GROUP);
    const weight = new Float32Array(rows * 4 * pitch);
    for (let o = 0; o < outputs; o++) for (let k = 0; k < perOutput; k++) weight[k * 4 * pitch + o] = W[o * perOutput + k];
    return {
      inputs: stride(inputs) / 4,
      outputs: size,
      pitch,
      isDepthwise,
      isApart,
      isHeld: !isApart || LOW * (ofWeights + 1) < FLOAT_BOUND, // as for levels above 16256 at any rate; sums of upper halves always are
      levels,
      activation,
      scale: gpu.put(padded(scale ?? new Float32Array(inputs).fill(1), stride(inputs))),
      weight: gpu.put(weight),
      bias: gpu.put(padded(B, 4 * pitch)),
      unit: gpu.put(padded(units, 4 * pitch)),
    };
  }

  /** Return whether activations of many values and the pixels of a small latent are those of WebAssembly. */
  async #isExact() {
    const random = randomBits();
    const values = Float32Array.from({ length: 4 * CHECKED }, () => ((random() - 2 ** 31) / 2 ** 31) * 2 ** ((random() % 24) - 18));
    const isEqual = (a, b) => a.length === b.length && a.every((value, k) => value === b[k]);
    for (const activation of [1, 2])
      if (!isEqual(await this.#activated(values, activation), this.#activatedByOther(values, activation))) return false;
    const [height, width] = [5, 7];
    const latent = Float32Array.from({ length: height * width * stride(this.config.latent_channels) }, () => (random() % 9) - 4);
    return isEqual(await this.#painted(this, latent, height, width), await this.#painted(this.other, latent, height, width));
  }

  async #activated(values, activation) {
    const { gpu } = this;
    const buffers = [gpu.put(values), gpu.buffer(values.byteLength), gpu.put(MAGNIFIED)];
    const parameters = { positions: CHECKED, inputs: 1, activation, levels: LARGEST };
    const record = (dispatch) => dispatch('round', undefined, parameters, buffers, [CHECKED / 256]);
    return new Float32Array(await gpu.run(record, buffers[1], 0, values.byteLength));
  }

  async #painted(synthesis, latent, height, width) {
    const { kernels } = this;
    const mark = kernels.top;
    const found = [];
    for await (const { levels } of synthesis.paint(kernels.put(Float32Array, latent), height, width, false, async () => {})) found.push(levels.slice());
    kernels.top = mark;
    return new Uint8Array(await new Blob(found).arrayBuffer());
  }

  #activatedByOther(values, activation) {
    const { kernels } = this;
    return kernels.within(() => {
      const [given, made] = [kernels.put(Float32Array, values), kernels.reserve(values.byteLength)];
      kernels.run.roundToFloats(made, given, kernels.put(Float32Array, MAGNIFIED), CHECKED, 4, LARGEST, activation);
      return kernels.view(Float32Array, made, values.length).slice();
    });
  }
}

function padded(values, size) {
  const all = new Float32Array(size);
  all.set(values);
  return all;
}

/** Return a function that gives 32 bits, the same ones in every run: Marsaglia's xorshift (JSS 2003). */
function randomBits() {
  let state = 2463534242;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>>= 0);
  };
}
