/** The pixels that were asked for, as they come: cut, with alpha, made smaller. */
import { check } from './errors.js';

export class Rows {
  /**
   * @param {{left, top, width, height}} window in pixels of the image
   * @param {number} scale 1, 1/2, 1/4 or 1/8
   * @param {{alpha?: Uint8Array, pitch: number, onRows?: Function}} options alpha of the whole image, its width, and who is told of finished rows
   */
  constructor(window, scale, { alpha, pitch, onRows }) {
    check([1, 1 / 2, 1 / 4, 1 / 8].includes(scale), 'RangeError', `scale is ${scale}, expected one of 1, 1/2, 1/4, 1/8`);
    Object.assign(this, { window, side: 1 / scale, alpha, pitch, onRows });
    this.width = Math.ceil(window.width * scale);
    this.height = Math.ceil(window.height * scale);
    this.data = new Uint8ClampedArray(4 * this.width * this.height);
    this.sums = new Float64Array(scale < 1 ? 4 * this.width : 0);
    this.done = 0;
  }

  /** Take a band of rows of RGBA, `pitch` bytes each, whose first pixel is at (top, left) of the image. */
  add({ levels, top, left, count, pitch }) {
    const { window, side, width, height, data } = this;
    const before = this.done;
    for (let y = Math.max(top, window.top); y < Math.min(top + count, window.top + window.height); y++) {
      const at = (y - top) * pitch + 4 * (window.left - left);
      const row = levels.subarray(at, at + 4 * window.width);
      if (this.alpha) for (let x = 0; x < window.width; x++) row[4 * x + 3] = this.alpha[y * this.pitch + window.left + x];
      if (side === 1) data.set(row, 4 * width * (y - window.top));
      else this.#reduce(row, y - window.top);
      this.done = side === 1 ? y - window.top + 1 : Math.floor((y - window.top + 1) / side);
    }
    if (top + count >= window.top + window.height) this.done = height;
    if (this.onRows && this.done > before) this.onRows({ row: before, rows: this.done - before, width, height, data: data.subarray(4 * width * before, 4 * width * this.done) });
  }

  /** Add a row to the means of the pixels below it, weighed by their alpha, and finish them with their last row. */
  #reduce(row, y) {
    const { side, sums, width, window, data } = this;
    for (let x = 0; x < window.width; x++) {
      const [at, from, alpha] = [4 * Math.floor(x / side), 4 * x, row[4 * x + 3]];
      for (let c = 0; c < 3; c++) sums[at + c] += alpha * row[from + c];
      sums[at + 3] += alpha;
    }
    if ((y + 1) % side && y + 1 < window.height) return;
    for (let x = 0; x < width; x++) {
      const count = ((y % side) + 1) * Math.min(side, window.width - side * x);
      const [to, alpha] = [4 * (Math.floor(y / side) * width + x), sums[4 * x + 3]];
      for (let c = 0; c < 3; c++) data[to + c] = alpha ? Math.round(sums[4 * x + c] / alpha) : 0;
      data[to + 3] = Math.round(alpha / count);
    }
    sums.fill(0);
  }
}
