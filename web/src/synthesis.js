/** From the latent to pixels, a few rows at a time: FORMAT.md sections 7.4 and 7.5. */
import { stride } from './layers.js';

export const POSITIONS_AT_ONCE = 512; // of the latent, about: what they become stays in cache
export const PATCH = 8;

/** What a block makes of rows of features that come one after the other. Its last row waits for the one after it. */
class BlockStream {
  constructor(layers, name, capacity, width) {
    const { inStride: size } = layers.get(`${name}.mix_in`);
    const { kernels } = layers;
    Object.assign(this, { layers, kernels, name, width, row: width * size, seen: 0, numKept: 0 });
    this.x = kernels.reserve(4 * (capacity + 1) * this.row); // the last row before, then those that come
    this.rounded = kernels.reserve(4 * (capacity + 2) * this.row); // the last two before, then those that come
  }

  /** Take rows of x, and return those that are done. */
  next({ x, rows }, isLast) {
    const { layers, kernels, name, width, row, numKept } = this;
    this.#move(this.x, this.x + 4 * this.seen * row, 1);
    const own = this.x + 4 * row;
    this.#move(own, x, rows);
    this.seen = rows;
    const total = numKept + rows;
    const first = numKept === 2 ? 1 : 0;
    const count = Math.max(0, (isLast ? total : total - 1) - first);
    const out = numKept ? this.x : own;
    kernels.within(() => {
      const inner = kernels.reserve(4 * (total + 1) * row);
      layers.convolve(`${name}.mix_in`, inner, own, rows, width);
      layers.round(`${name}.mix_space`, this.rounded + 4 * numKept * row, inner, rows * width);
      const { weight, bias, inStride } = layers.get(`${name}.mix_space`);
      const space = kernels.reserve(4 * (total + 1) * row);
      layers.run.convolveInSpace(space, this.rounded, weight, bias, total, width, inStride, first, count);
      layers.convolve(`${name}.mix_out`, inner, space, count, width);
      layers.run.add(out, inner, count * row);
    });
    layers.widen(name, out, count, width);
    this.numKept = Math.min(2, total);
    this.#move(this.rounded, this.rounded + 4 * (total - this.numKept) * row, this.numKept);
    return { x: out, rows: count };
  }

  #move(to, from, rows) {
    new Uint8Array(this.kernels.memory.buffer).copyWithin(to, from, from + 4 * rows * this.row);
  }
}

/** The synthesis of a model at one quality. */
export class Synthesis {
  /** @param {import('./layers.js').Layers} layers @param {import('./weights.js').Weights} weights */
  constructor(layers, weights) {
    Object.assign(this, { layers, kernels: layers.kernels, run: layers.run, config: weights.config });
    this.inverseGain = layers.channels(layers.factors('inverse_gain.values'));
    this.gain = layers.channels(layers.factors('synthesis.gain.values'));
  }

  /** Positions around a part of the latent that its pixels depend on. */
  get halo() {
    return this.config.latent_blocks + Math.ceil(this.config.decoder_blocks / 2);
  }

  /**
   * Turn a latent (height, width, stride of M), which is changed, into bands of RGBA, 16 columns of pixels a position.
   * @param {(bottom: number) => Promise<void>} reach called with the row up to which the latent must be known
   * @returns {AsyncGenerator<{levels: Uint8Array, row: number, count: number}>} bytes, the band's first row of pixels and its number of them
   */
  async *paint(yHat, height, width, isGray, reach) {
    const { kernels, run, layers, config } = this;
    const { channels: C, latent_channels: M, latent_blocks: numLatent, decoder_blocks: numBlocks } = config;
    const atOnce = Math.max(1, Math.round(POSITIONS_AT_ONCE / width));
    const latents = this.#streams('synthesis.latent_blocks', numLatent, atOnce, width);
    const blocks = this.#streams('synthesis.blocks', numBlocks, 2 * (atOnce + numLatent), 2 * width);
    let done = 0;
    for (let row = 0; row < height; row += atOnce) {
      const rows = Math.min(atOnce, height - row);
      const isLast = row + rows === height;
      await reach(row + rows);
      const mark = kernels.top;
      const own = yHat + 4 * row * width * stride(M);
      run.scaleChannels(own, this.inverseGain, rows * width, stride(M));
      const x = kernels.reserve(4 * rows * width * stride(M));
      layers.convolve('synthesis.project', x, own, rows, width);
      let part = latents.reduce((given, stream) => stream.next(given, isLast), { x, rows });
      const wide = layers.upsample('synthesis.up', part.x, part.rows, width, C);
      run.scaleChannels(wide, this.gain, 4 * part.rows * width, stride(C));
      part = blocks.reduce((given, stream) => stream.next(given, isLast), { x: wide, rows: 2 * part.rows });
      if (part.rows) yield { levels: this.#patches(part, 2 * width, isGray), row: done, count: PATCH * part.rows };
      done += PATCH * part.rows;
      kernels.top = mark;
    }
  }

  #streams(name, count, capacity, width) {
    return Array.from({ length: count }, (_, k) => new BlockStream(this.layers, `${name}.${k}`, capacity + k, width));
  }

  #patches({ x, rows }, width, isGray) {
    const { kernels, layers } = this;
    const planes = kernels.reserve(4 * rows * width * 3 * PATCH * PATCH);
    layers.convolve('synthesis.patch', planes, x, rows, width);
    return this.levels(planes, rows, width, isGray);
  }

  /** Return the RGBA bytes of planes (rows, width, 192). */
  levels(planes, rows, width, isGray) {
    const { kernels, run } = this;
    const bytes = 4 * PATCH * rows * PATCH * width;
    const levels = kernels.reserve(bytes);
    run.levels(levels, planes, width, PATCH * rows, PATCH * width, 4 * PATCH * width, isGray ? 1 : 0);
    return kernels.view(Uint8Array, levels, bytes);
  }
}
