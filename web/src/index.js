/** Decodes .cae images. FORMAT.md says what the numbers of sections mean. */
import { crc32, readFile, readHeader, readLossless, tilesOf } from './container.js';
import { CodecError, check } from './errors.js';
import { Kernels } from './kernels.js';
import { Networks } from './networks.js';
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
    Object.assign(this, { weights, kernels, base: kernels.top, networks: undefined });
  }

  /**
   * Decode a file that has no lossless blocks and no alpha.
   * @param {Uint8Array} bytes
   * @returns {{width: number, height: number, data: Uint8ClampedArray, metadata: Object<string, Uint8Array>}} RGBA
   */
  decode(bytes, { maxPixels } = {}) {
    const { kernels, weights } = this;
    const { file, networks } = this.#open(bytes, maxPixels);
    const { header } = file;
    const data = new Uint8ClampedArray(4 * header.width * header.height);
    const height = Math.ceil(header.height / 16);
    const width = Math.ceil(header.width / 16);
    const isWhole = !file.alpha && file.tiles.every(({ lossless }) => !lossless);
    check(isWhole, 'UnsupportedVersionError', 'files with alpha or lossless blocks are not decoded here yet');
    networks.preparePixels();
    kernels.within(() => {
      const size = 4 * Math.ceil(weights.config.latent_channels / 4);
      const yHat = kernels.reserve(4 * height * width * size);
      kernels.view(Float32Array, yHat, height * width * size).fill(0);
      tilesOf(header).forEach((place, number) => this.#tile(networks, file, number, place, { yHat, width, size }));
      networks.synthesize(yHat, height, width, header.mode < 3, (levels, row, rows) => {
        const kept = Math.min(rows, header.height - row);
        for (let i = 0; i < kept; i++)
          data.set(levels.subarray(64 * width * i, 64 * width * i + 4 * header.width), 4 * header.width * (row + i));
      });
    });
    return { width: header.width, height: header.height, data, metadata: file.metadata };
  }

  /** Return the symbols of every tile as z and y, for tests of conformance. */
  symbols(bytes) {
    const { file, networks } = this.#open(bytes);
    return tilesOf(file.header).map((place, number) =>
      this.kernels.within(() => {
        const found = this.#symbols(networks, file, number, place);
        if (!found) return [new Int32Array(0), new Int32Array(0)];
        return [
          this.kernels.view(Int32Array, found.z, found.numZ).slice(),
          this.kernels.view(Int32Array, found.y, found.numY).slice(),
        ];
      }),
    );
  }

  #open(bytes, maxPixels) {
    const file = readFile(bytes, maxPixels);
    const { digest, units } = file.header;
    check(digest === this.weights.digest, 'UnknownModelError', `the file needs the model ${digest}, these weights are ${this.weights.digest}`);
    return { file, networks: this.#networks(units) };
  }

  /** Return the model at a quality, the last one or one in its place. */
  #networks(units) {
    if (this.networks?.units !== units) {
      this.networks = undefined;
      this.kernels.top = this.base;
      this.networks = new Networks(this.kernels, this.weights, units);
    }
    return this.networks;
  }

  #symbols(networks, file, number, place) {
    const { symbolsCrc, words, lossless } = file.tiles[number];
    if (lossless) {
      const { mask } = readLossless(lossless, place, file.header.tile);
      if (!mask.includes(false) && !words.length && symbolsCrc === 0) return undefined;
    }
    const found = networks.symbols({ words }, place.row.count, place.column.count);
    const symbols = new Uint8Array(this.kernels.memory.buffer, found.z, 4 * found.numZ);
    const rest = new Uint8Array(this.kernels.memory.buffer, found.y, 4 * found.numY);
    const joined = new Uint8Array(symbols.length + rest.length);
    joined.set(symbols);
    joined.set(rest, symbols.length);
    check(crc32(joined) === symbolsCrc, 'DesyncError', 'the symbols are not those that were encoded');
    return found;
  }

  #tile(networks, file, number, place, { yHat, width, size }) {
    const { kernels } = this;
    const { row, column } = place;
    kernels.within(() => {
      const found = this.#symbols(networks, file, number, place);
      if (!found) return;
      const own = kernels.reserve(4 * row.count * column.count * size);
      kernels.view(Float32Array, own, row.count * column.count * size).fill(0);
      networks.means(own, found, row.count, column.count);
      const from = kernels.view(Float32Array, own, row.count * column.count * size);
      const to = kernels.view(Float32Array, yHat, (row.first + row.count) * width * size);
      for (let i = 0; i < row.count; i++)
        to.set(from.subarray(i * column.count * size, (i + 1) * column.count * size), ((row.first + i) * width + column.first) * size);
    });
  }
}
