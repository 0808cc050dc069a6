/** Decodes .cae images of one model, in the thread that calls it. */
import { crc32, readFile, readLossless, tilesOf } from './container.js';
import { check } from './errors.js';
import { Gpu, GpuError, GpuSynthesis } from './gpu.js';
import { decodeAlpha, decodeByBrowser, decodeLossless } from './images.js';
import { Kernels } from './kernels.js';
import { Layers, stride } from './layers.js';
import { Means } from './means.js';
import { inflate, orientationOf, profileName } from './metadata.js';
import { Rows } from './rows.js';
import { SymbolDecoder } from './symbols.js';
import { Synthesis } from './synthesis.js';
import { Weights, loadWeights } from './weights.js';

const STRIDE = 16;
/** Pixels of the largest image that is decoded if not told otherwise: it takes less than 1 GB. */
const USUAL_LIMIT = 2 ** 26;

export class Decoder {
  /**
   * @param {Weights | Uint8Array} weights of an exact model, a file of `caecodec export --web` or the whole one
   * @param {BufferSource} wasm the bytes of kernels.wasm
   * @param {import('./index.js').GpuChoice} [gpu]
   */
  static async load(weights, wasm, gpu = 'none') {
    const own = weights instanceof Weights ? weights : await loadWeights(weights);
    return new Decoder(own, await Kernels.load(wasm), gpu);
  }

  constructor(weights, kernels, gpu) {
    Object.assign(this, { weights, kernels, gpu, base: kernels.top, units: undefined, last: Promise.resolve() });
  }

  /**
   * Decode a file, or part of it.
   * @param {Uint8Array} bytes
   * @param {import('./index.js').DecodeOptions} [options]
   * @returns {Promise<import('./index.js').DecodedImage>}
   */
  decode(bytes, options = {}) {
    const result = this.last.then(() => this.#decode(bytes, options)); // one after the other: they share memory
    this.last = result.catch(() => {});
    return result;
  }

  /** Return the symbols of every tile as z and y, for tests of conformance. */
  symbols(bytes, { maxPixels } = {}) {
    const file = this.#open(bytes, maxPixels);
    return tilesOf(file.header).map((place, number) =>
      this.kernels.within(() => {
        const found = this.#symbols(file, number, place);
        if (!found) return [new Int32Array(0), new Int32Array(0)];
        return [
          this.kernels.view(Int32Array, found.z, found.numZ).slice(),
          this.kernels.view(Int32Array, found.y, found.numY).slice(),
        ];
      }),
    );
  }

  async #decode(bytes, { crop, scale = 1, maxPixels = USUAL_LIMIT, decodeImage = decodeByBrowser, onRows, onStart }) {
    const file = this.#open(bytes, maxPixels);
    const { header } = file;
    const window = cropOf(header, crop);
    const metadata = {};
    for (const [name, content] of Object.entries(file.metadata)) metadata[name] = await inflate(content, name);
    const alpha = file.alpha && (await decodeAlpha(file.alpha, header, decodeImage));
    await this.#prepare();
    const rows = () => new Rows(window, scale, { alpha, pitch: header.width, onRows });
    const [width, height] = [window.width, window.height].map((side) => Math.ceil(side * scale));
    const facts = { width, height, orientation: orientationOf(metadata.exif), colorProfile: profileName(metadata.iccProfile) };
    onStart?.(facts);
    if (this.byGpu)
      try {
        return { ...facts, metadata, isByGpu: true, data: await this.#paint(this.byGpu, file, window, rows(), decodeImage) };
      } catch (error) {
        if (!(error instanceof GpuError)) throw error;
        Object.assign(this, { gpu: 'none', byGpu: undefined });
      }
    return { ...facts, metadata, isByGpu: false, data: await this.#paint(this.synthesis, file, window, rows(), decodeImage) };
  }

  /** Read a file, and make ready for symbols at its quality, in the place of the last one. */
  #open(bytes, maxPixels) {
    const { kernels, weights } = this;
    const file = readFile(bytes, maxPixels);
    const { digest, units } = file.header;
    check(digest === weights.digest, 'UnknownModelError', `the file needs the model ${digest}, these weights are of ${weights.digest}`);
    if (this.units !== units) {
      this.byGpu?.release();
      Object.assign(this, { units: undefined, means: undefined, synthesis: undefined, byGpu: undefined });
      kernels.top = this.base;
      this.symbolDecoder = new SymbolDecoder(kernels, weights, units);
      this.units = units;
    }
    return file;
  }

  /** Make ready for pixels. */
  async #prepare() {
    if (!this.synthesis) {
      const layers = new Layers(this.kernels, this.weights, this.units);
      this.means = new Means(layers, this.weights);
      this.synthesis = new Synthesis(layers, this.weights);
    }
    if (this.gpu === 'none' || this.byGpu) return;
    this.device ??= await Gpu.find(this.gpu === 'any');
    this.byGpu = this.device && (await GpuSynthesis.make(this.device, this.synthesis));
    if (!this.byGpu) this.gpu = 'none'; // and do not look again
  }

  /** Decode the tiles that a window depends on as its rows need them, and return the pixels. */
  async #paint(synthesis, file, window, rows, decodeImage) {
    const { header } = file;
    const mark = this.kernels.top;
    const outer = this.#reach(header, window);
    const size = stride(this.weights.config.latent_channels);
    const yHat = this.kernels.zeros(outer.height * outer.width * size);
    const places = tilesOf(header);
    let next = 0;
    let lossless = [];
    const reach = async (bottom) => {
      for (; next < places.length && places[next].row.first < outer.row + bottom; next++) {
        const place = places[next];
        if (!overlaps(place, outer)) continue;
        this.#tile(file, next, place, { yHat, outer, size });
        const content = file.tiles[next].lossless;
        if (content) lossless.push(await decodeLossless(content, place, header, decodeImage));
      }
    };
    try {
      for await (const { levels, row, count } of synthesis.paint(yHat, outer.height, outer.width, header.mode < 3, reach)) {
        const band = { levels, top: STRIDE * outer.row + row, left: STRIDE * outer.column, count, pitch: 4 * STRIDE * outer.width };
        for (const blocks of lossless) overlay(band, blocks);
        rows.add(band);
        lossless = lossless.filter(({ place }) => place.row.start + place.row.pixels > band.top + count);
      }
    } finally {
      this.kernels.top = mark;
    }
    return rows.data;
  }

  /** Return the positions that the pixels of a window depend on. */
  #reach({ width, height }, window) {
    const { halo } = this.synthesis;
    const span = (start, length, whole) => {
      const first = Math.max(0, Math.floor(start / STRIDE) - halo);
      return [first, Math.min(Math.ceil(whole / STRIDE), Math.ceil((start + length) / STRIDE) + halo) - first];
    };
    const [row, rows] = span(window.top, window.height, height);
    const [column, columns] = span(window.left, window.width, width);
    return { row, column, height: rows, width: columns };
  }

  #symbols(file, number, { row, column }) {
    const { symbolsCrc, words, lossless } = file.tiles[number];
    if (lossless) {
      const { mask } = readLossless(lossless, { row, column }, file.header.tile);
      if (!mask.includes(false) && !words.length && symbolsCrc === 0) return undefined;
    }
    const found = this.symbolDecoder.decode(words, row.count, column.count);
    const parts = [[found.z, found.numZ], [found.y, found.numY]];
    const crc = parts.reduce((before, [address, count]) => crc32(this.kernels.view(Uint8Array, address, 4 * count), before), 0);
    check(crc === symbolsCrc, 'DesyncError', 'the symbols are not those that were encoded');
    return found;
  }

  /** Decode a tile and copy what of its latent is in `outer`. */
  #tile(file, number, place, { yHat, outer, size }) {
    const { kernels } = this;
    const { row, column } = place;
    kernels.within(() => {
      const found = this.#symbols(file, number, place);
      if (!found) return;
      const own = kernels.zeros(row.count * column.count * size);
      this.means.dequantize(own, found, row.count, column.count);
      const from = kernels.view(Float32Array, own, row.count * column.count * size);
      const to = kernels.view(Float32Array, yHat, outer.height * outer.width * size);
      const [left, right] = [Math.max(column.first, outer.column), Math.min(column.first + column.count, outer.column + outer.width)];
      const [top, bottom] = [Math.max(row.first, outer.row), Math.min(row.first + row.count, outer.row + outer.height)];
      for (let i = top; i < bottom; i++) {
        const at = ((i - row.first) * column.count + left - column.first) * size;
        to.set(from.subarray(at, at + (right - left) * size), ((i - outer.row) * outer.width + left - outer.column) * size);
      }
    });
  }
}

function cropOf({ width, height }, crop) {
  if (!crop) return { left: 0, top: 0, width, height };
  const { left, top, width: w, height: h } = crop;
  const isInside = [left, top, w, h].every(Number.isInteger) && left >= 0 && top >= 0 && w > 0 && h > 0 && left + w <= width && top + h <= height;
  check(isInside, 'RangeError', `the crop is not inside the image of ${width} x ${height} pixels`);
  return { left, top, width: w, height: h };
}

function overlaps({ row, column }, outer) {
  const meets = (span, start, length) => span.first < start + length && start < span.first + span.count;
  return meets(row, outer.row, outer.height) && meets(column, outer.column, outer.width);
}

/** Put the pixels of lossless blocks into a band of rows. */
function overlay({ levels, top, left, count, pitch }, { side, columns, mask, data, place: { row, column } }) {
  const first = Math.max(top, row.start);
  const last = Math.min(top + count, row.start + row.pixels);
  const from = Math.max(left, column.start);
  const to = Math.min(left + pitch / 4, column.start + column.pixels);
  for (let y = first; y < last; y++)
    for (let x = from; x < to; x++) {
      const [i, j] = [y - row.start, x - column.start];
      if (!mask[Math.floor(i / side) * columns + Math.floor(j / side)]) continue;
      const at = 4 * (i * column.pixels + j);
      levels.set(data.subarray(at, at + 3), (y - top) * pitch + 4 * (x - left));
    }
}
