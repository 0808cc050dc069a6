/** Just enough of PNG to read the golden images: 8 bits, not interlaced. */
import { inflateSync } from 'node:zlib';

const CHANNELS = { 0: 1, 2: 3, 4: 2, 6: 4 };

/** Return width, height, channels and the samples of a PNG. */
export function readPng(bytes) {
  let [offset, header] = [8, undefined];
  const parts = [];
  while (offset < bytes.length) {
    const length = bytes.readUInt32BE(offset);
    const content = bytes.subarray(offset + 8, offset + 8 + length);
    const kind = bytes.toString('latin1', offset + 4, offset + 8);
    if (kind === 'IHDR') header = content;
    if (kind === 'IDAT') parts.push(content);
    offset += length + 12;
  }
  const [width, height, channels] = [header.readUInt32BE(0), header.readUInt32BE(4), CHANNELS[header[9]]];
  const [raw, pitch] = [inflateSync(Buffer.concat(parts)), width * channels];
  const data = new Uint8Array(height * pitch);
  for (let row = 0; row < height; row++) {
    const filter = raw[row * (pitch + 1)];
    for (let at = 0; at < pitch; at++) {
      const left = at >= channels ? data[row * pitch + at - channels] : 0;
      const up = row ? data[(row - 1) * pitch + at] : 0;
      const corner = row && at >= channels ? data[(row - 1) * pitch + at - channels] : 0;
      const predicted = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
      data[row * pitch + at] = raw[row * (pitch + 1) + 1 + at] + predicted;
    }
  }
  return { width, height, channels, data };
}

function paeth(left, up, corner) {
  const estimate = left + up - corner;
  const [a, b, c] = [left, up, corner].map((value) => Math.abs(estimate - value));
  return a <= b && a <= c ? left : b <= c ? up : corner;
}
