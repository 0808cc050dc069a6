/** Decodes .cae images. FORMAT.md says what the numbers of sections mean. */
import { crc32, readFile, readHeader, readLossless, tilesOf } from './container.js';
import { CodecError, check } from './errors.js';
import { Kernels } from './kernels.js';
import { Layers, stride } from './layers.js';
import { Means } from './means.js';
import { SymbolDecoder } from './symbols.js';
import { Synthesis } from './synthesis.js';
import { Weights, loadWeights } from './weights.js';

export { CodecError, Weights, loadWeights, readHeader };

/** Decodes files of one model. */
export class Decoder {
  /**
   * @param {Weights | Uint8Array} weights of an exact model
   * @param {BufferSource} wasm the bytes of kernels.wasm
   */
  static async load(weights, wasm) {
    const own = weights instanceof Weights ? weights : await loadWeights(weights);
    return new Decoder(own, await Kernels.load(wasm));
  }

  constructor(weights, kernels) {
    Object.assign(this, { weights, kernels, base: kernels.top, units: undefined });
  }

  /**
   * Decode a file that has no lossless blocks and no alpha.
   * @param {Uint8Array} bytes
   * @returns {{width: number, height: number, data: Uint8ClampedArray, metadata: Object<string, Uint8Array>}} RGBA
   */
  decode(bytes, { maxPixels } = {}) {
    const { kernels, weights } = this;
    const file = this.#open(bytes, maxPixels);
    const { header } = file;
    const isWhole = !file.alpha && file.tiles.every(({ lossless }) => !lossless);
    check(isWhole, 'UnsupportedVersionError', 'files with alpha or lossless blocks are not decoded here yet');
    this.#prepare();
    const data = new Uint8ClampedArray(4 * header.width * header.height);
    const height = Math.ceil(header.height / 16);
    const width = Math.ceil(header.width / 16);
    kernels.within(() => {
      const size = stride(weights.config.latent_channels);
      const yHat = this.#zeros(height * width * size);
      tilesOf(header).forEach((place, number) => this.#tile(file, number, place, { yHat, width, size }));
      this.synthesis.paint(yHat, height, width, header.mode < 3, (levels, row, rows) => {
        const kept = Math.min(rows, header.height - row);
        for (let i = 0; i < kept; i++)
          data.set(levels.subarray(64 * width * i, 64 * width * i + 4 * header.width), 4 * header.width * (row + i));
      });
    });
    return { width: header.width, height: header.height, data, metadata: file.metadata };
  }

  /** Return the symbols of every tile as z and y, for tests of conformance. */
  symbols(bytes) {
    const file = this.#open(bytes);
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

  /** Read a file, and make ready for symbols at its quality, in the place of the last one. */
  #open(bytes, maxPixels) {
    const { kernels, weights } = this;
    const file = readFile(bytes, maxPixels);
    const { digest, units } = file.header;
    check(digest === weights.digest, 'UnknownModelError', `the file needs the model ${digest}, these weights are ${weights.digest}`);
    if (this.units !== units) {
      Object.assign(this, { units: undefined, means: undefined, synthesis: undefined });
      kernels.top = this.base;
      this.symbolDecoder = new SymbolDecoder(kernels, weights, units);
      this.units = units;
    }
    return file;
  }

  /** Make ready for pixels. */
  #prepare() {
    if (this.synthesis) return;
    const layers = new Layers(this.kernels, this.weights, this.units);
    this.means = new Means(layers, this.weights);
    this.synthesis = new Synthesis(layers, this.weights);
  }

  #symbols(file, number, { row, column }) {
    const { symbolsCrc, words, lossless } = file.tiles[number];
    if (lossless) {
      const { mask } = readLossless(lossless, { row, column }, file.header.tile);
      if (!mask.includes(false) && !words.length && symbolsCrc === 0) return undefined;
    }
    const found = this.symbolDecoder.decode(words, row.count, column.count);
    const crc = [[found.z, found.numZ], [found.y, found.numY]].reduce((before, [address, count]) => crc32(this.kernels.view(Uint8Array, address, 4 * count), before), 0);
    check(crc === symbolsCrc, 'DesyncError', 'the symbols are not those that were encoded');
    return found;
  }

  #tile(file, number, place, { yHat, width, size }) {
    const { kernels } = this;
    const { row, column } = place;
    kernels.within(() => {
      const found = this.#symbols(file, number, place);
      if (!found) return;
      const own = this.#zeros(row.count * column.count * size);
      this.means.dequantize(own, found, row.count, column.count);
      const from = kernels.view(Float32Array, own, row.count * column.count * size);
      const to = kernels.view(Float32Array, yHat, (row.first + row.count) * width * size);
      for (let i = 0; i < row.count; i++)
        to.set(from.subarray(i * column.count * size, (i + 1) * column.count * size), ((row.first + i) * width + column.first) * size);
    });
  }

  #zeros(count) {
    const address = this.kernels.reserve(4 * count);
    this.kernels.view(Float32Array, address, count).fill(0);
    return address;
  }
}
