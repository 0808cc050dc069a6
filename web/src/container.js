/** The bytes of a file: header, boxes and the grid of tiles. FORMAT.md sections 3 to 5. */
import { check } from './errors.js';

const MAGIC = [0x89, 0x43, 0x41, 0x45, 0x0d, 0x0a, 0x1a, 0x0a];
const HEADER_BYTES = 30;
const METADATA = { iccp: 'iccProfile', exif: 'exif', 'xmp ': 'xmp' };
export const MAX_PIXELS = 178956970;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, number) => {
  for (let bit = 0; bit < 8; bit++) number = number & 1 ? (number >>> 1) ^ 0xedb88320 : number >>> 1;
  return number;
});

/** Return the CRC-32 of bytes, those before it counted too. */
export function crc32(bytes, before = 0) {
  let crc = ~before;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/**
 * Read a header: section 4.
 * @param {Uint8Array} bytes the first 30 of a file, or more
 * @param {number} [maxPixels]
 */
export function readHeader(bytes, maxPixels = MAX_PIXELS) {
  const start = bytes.subarray(0, MAGIC.length);
  check(start.every((byte, i) => byte === MAGIC[i]), 'BadMagicError', 'this is not a .cae file');
  check(start.length === MAGIC.length && bytes.length > 8, 'TruncatedError', 'the file ends in its header');
  check(bytes[8] === 1, 'UnsupportedVersionError', `the file has version ${bytes[8]}, this decoder reads version 1`);
  check(bytes.length >= HEADER_BYTES, 'TruncatedError', 'the file ends in its header');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  check(view.getUint32(26, true) === crc32(bytes.subarray(0, 26)), 'ChecksumMismatchError', 'the header is damaged');
  const header = {
    mode: view.getUint8(9),
    units: view.getUint16(10, true),
    width: view.getUint16(12, true),
    height: view.getUint16(14, true),
    digest: [...bytes.subarray(16, 24)].map((byte) => byte.toString(16).padStart(2, '0')).join(''),
    tile: 16 * 2 ** view.getUint8(24),
  };
  const { mode, units, width, height, tile } = header;
  const isLegal = mode >= 1 && mode <= 4 && units <= 10000 && width && height && tile >= 64 && tile <= 2048 && !bytes[25];
  check(isLegal, 'FormatError', 'the header has a value that the format does not allow');
  check(width * height <= maxPixels, 'LimitExceededError', `${width} x ${height} pixels are more than the limit of ${maxPixels}`);
  return header;
}

/**
 * Read a whole file: sections 3 and 5.
 * @returns {{header, tiles: {symbolsCrc: number, words: Uint32Array, lossless?: Uint8Array}[], alpha?: Uint8Array, metadata: Object<string, Uint8Array>}}
 */
export function readFile(bytes, maxPixels = MAX_PIXELS) {
  const header = readHeader(bytes, maxPixels);
  const count = Math.ceil(header.width / header.tile) * Math.ceil(header.height / header.tile);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const file = { header, tiles: [], alpha: undefined, metadata: {} };
  let offset = HEADER_BYTES;
  let lossless;
  while (file.tiles.length < count) {
    check(bytes.length >= offset + 8, 'TruncatedError', `the file ends at byte ${bytes.length}, before its last tile`);
    const kind = String.fromCharCode(...bytes.subarray(offset, offset + 4));
    const end = offset + 8 + view.getUint32(offset + 4, true);
    check(bytes.length >= end + 4, 'TruncatedError', `the file ends in the box at byte ${offset}`);
    check(view.getUint32(end, true) === crc32(bytes.subarray(offset, end)), 'ChecksumMismatchError', `the box at byte ${offset} is damaged`);
    const content = bytes.subarray(offset + 8, end);
    check(!lossless || kind === 'TILE', 'FormatError', 'no tile follows its lossless blocks');
    if (kind === 'TILE') {
      file.tiles.push({ ...readTile(content), lossless });
      lossless = undefined;
    } else if (kind === 'PIXL') {
      lossless = content;
    } else {
      check(!file.tiles.length, 'FormatError', `the box at byte ${offset} follows a tile`);
      addBox(file, kind, content);
    }
    offset = end + 4;
  }
  check(offset === bytes.length, 'FormatError', `the file has ${bytes.length - offset} bytes after its last tile`);
  check((file.alpha !== undefined) === (header.mode % 2 === 0), 'FormatError', 'the mode and the alpha box disagree');
  return file;
}

function addBox(file, kind, content) {
  const name = kind === 'ALPH' ? 'alpha' : METADATA[kind];
  if (name === undefined) {
    check(/^[a-z]/.test(kind), 'UnsupportedVersionError', `the file has a box ${JSON.stringify(kind)}, which needs a newer decoder`);
    return;
  }
  const holder = kind === 'ALPH' ? file : file.metadata;
  check(holder[name] === undefined, 'FormatError', `the file has more than one box ${kind}`);
  holder[name] = content;
}

function readTile(content) {
  const isWhole = content.length >= 4 && content.length % 4 === 0;
  check(isWhole, 'FormatError', 'a tile has a size that is no multiple of 4 bytes');
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const words = Uint32Array.from({ length: content.length / 4 - 1 }, (_, k) => view.getUint32(4 + 4 * k, true));
  check(!words.length || words[words.length - 1] !== 0, 'FormatError', 'the last word of a payload is 0');
  return { symbolsCrc: view.getUint32(0, true), words };
}

/** Return the tiles of a header: positions of 16 pixels, and the tile's rows and columns of pixels. */
export function tilesOf({ width, height, tile }) {
  const spans = (length) => {
    const found = [];
    for (let start = 0; start < length; start += tile) {
      const pixels = Math.min(tile, length - start);
      found.push({ first: start / 16, count: Math.ceil(pixels / 16), start, pixels });
    }
    return found;
  };
  const columns = spans(width);
  return spans(height).flatMap((row) => columns.map((column) => ({ row, column })));
}

/**
 * Read the content of a PIXL box: section 5.1.
 * @returns {{side: number, columns: number, mask: boolean[], image: Uint8Array}}
 */
export function readLossless(content, { row, column }, tile) {
  const side = content.length ? 2 ** content[0] : 0;
  check(side >= 16 && side <= tile, 'FormatError', 'lossless blocks have a side that the format does not allow');
  const columns = Math.ceil(column.pixels / side);
  const count = columns * Math.ceil(row.pixels / side);
  const bytes = content.subarray(1, 1 + Math.ceil(count / 8));
  check(bytes.length * 8 >= count, 'FormatError', 'the mask of lossless blocks is cut off');
  const bits = [...bytes].flatMap((byte) => Array.from({ length: 8 }, (_, k) => Boolean(byte & (128 >> k))));
  const mask = bits.slice(0, count);
  check(mask.includes(true) && !bits.slice(count).includes(true), 'FormatError', 'the mask of lossless blocks is not one');
  return { side, columns, mask, image: content.subarray(1 + bytes.length) };
}
