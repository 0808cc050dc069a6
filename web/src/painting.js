/** Paints rows as they come, turned as Exif says, in the colours of the image's profile. */

// Exif's orientations as matrices (a, b, c, d) of an image of unit size around its centre.
const TURNS = [[1, 0, 0, 1], [-1, 0, 0, 1], [-1, 0, 0, -1], [1, 0, 0, -1], [0, 1, 1, 0], [0, 1, -1, 0], [0, -1, -1, 0], [0, -1, 1, 0]];

export class Painting {
  /** @param {HTMLCanvasElement} canvas which gets the image's size @param {{width, height, orientation, colorProfile}} start */
  constructor(canvas, { width, height, orientation, colorProfile }) {
    const [a, b, c, d] = TURNS[orientation - 1];
    const isTurned = orientation > 4;
    Object.assign(canvas, { width: isTurned ? height : width, height: isTurned ? width : height });
    this.settings = { colorSpace: /P3/.test(colorProfile ?? '') ? 'display-p3' : 'srgb' };
    this.context = canvas.getContext('2d', this.settings);
    const x = canvas.width / 2 - (a * width + c * height) / 2;
    const y = canvas.height / 2 - (b * width + d * height) / 2;
    this.context.setTransform(a, b, c, d, x, y);
    this.context.imageSmoothingEnabled = false;
  }

  /** Paint finished rows. */
  add({ row, rows, width, data }) {
    const part = new OffscreenCanvas(width, rows);
    part.getContext('2d', this.settings).putImageData(new ImageData(data, width, rows, this.settings), 0, 0);
    this.context.drawImage(part, 0, row);
  }
}
