/** The images inside a file, which the browser decodes: alpha and lossless blocks. FORMAT.md sections 5.1 and 8.1. */
import { readLossless } from './container.js';
import { CodecError, check } from './errors.js';

/**
 * What decodes a PNG or a WebP image, or undefined where nothing does, as in Node.
 * @typedef {(bytes: Uint8Array, type: string) => Promise<{width: number, height: number, data: Uint8ClampedArray}>} DecodeImage
 */

/** Decode an image by the browser, without touching its levels. @type {DecodeImage | undefined} */
export const decodeByBrowser = typeof createImageBitmap === 'undefined' || typeof OffscreenCanvas === 'undefined' ? undefined : async (bytes, type) => {
  const options = { premultiplyAlpha: 'none', colorSpaceConversion: 'none' };
  const bitmap = await createImageBitmap(new Blob([bytes], { type }), options);
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, data: context.getImageData(0, 0, width, height).data };
};

const kindOf = (bytes, at) => String.fromCharCode(...bytes.subarray(at, at + 4));
const isGray = ({ data }) => data.every((level, at) => at % 4 === 3 || level === data[at - (at % 4)]);

/** Return the alpha plane of a file, a level a pixel. */
export async function decodeAlpha(content, { width, height }, decodeImage) {
  const isPng = kindOf(content, 1) === 'PNG\r' && content[24] === 8 && content[25] === 0;
  const isWebp = kindOf(content, 0) === 'RIFF' && ['VP8L', 'VP8 '].includes(kindOf(content, 12));
  check(isPng || isWebp, 'FormatError', 'the alpha box holds no 8-bit gray PNG or WebP image');
  const image = await decode(content, isPng ? 'image/png' : 'image/webp', 'the alpha box', decodeImage);
  checkSize(image, width, height, 'alpha');
  check(isGray(image), 'FormatError', 'the alpha box holds an image that is not gray');
  return image.data.filter((_, at) => at % 4 === 0);
}

/** Return the lossless blocks of a tile: which there are, and RGBA of the tile. */
export async function decodeLossless(content, place, header, decodeImage) {
  const blocks = readLossless(content, place, header.tile);
  check(kindOf(blocks.image, 12) === 'VP8L', 'FormatError', 'the lossless blocks are not a WebP image in its lossless mode');
  const image = await decode(blocks.image, 'image/webp', 'the lossless blocks', decodeImage);
  checkSize(image, place.column.pixels, place.row.pixels, 'lossless blocks');
  check(header.mode > 2 || isGray(image), 'FormatError', 'the lossless blocks of a gray image have colour');
  check(image.data.every((level, at) => at % 4 < 3 || level === 255), 'FormatError', 'the lossless blocks have alpha');
  return { ...blocks, data: image.data, place };
}

async function decode(content, type, what, decodeImage) {
  check(decodeImage, 'UnsupportedVersionError', `${what} needs something that decodes ${type}: pass decodeImage`);
  try {
    return await decodeImage(content, type);
  } catch {
    throw new CodecError('FormatError', `${what} cannot be read`);
  }
}

function checkSize(image, width, height, what) {
  check(image.width === width && image.height === height, 'FormatError', `${what} of ${image.width} x ${image.height} pixels, expected ${width} x ${height}`);
}
