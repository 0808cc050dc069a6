/** Metadata: FORMAT.md section 8.2, and what a viewer needs of Exif and ICC profiles. */
import { CodecError, check } from './errors.js';

const MAX_METADATA = 64 * 2 ** 20;

/** Inflate the content of a metadata box. @returns {Promise<Uint8Array>} */
export async function inflate(content, name) {
  const parts = [];
  let size = 0;
  try {
    const stream = new Blob([content]).stream().pipeThrough(new DecompressionStream('deflate'));
    for (const reader = stream.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      size += value.length;
      check(size <= MAX_METADATA, 'LimitExceededError', `${name} inflates to more than ${MAX_METADATA} bytes`);
      parts.push(value);
    }
  } catch (error) {
    if (error instanceof CodecError) throw error;
    throw new CodecError('FormatError', `${name} is not one whole zlib stream`);
  }
  const whole = new Uint8Array(size);
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

/** Return the orientation of Exif 2.32, 1 to 8; 1 if there is none. @param {Uint8Array} [exif] from its TIFF header on */
export function orientationOf(exif) {
  if (!exif || exif.length < 8) return 1;
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const isLittle = view.getUint16(0) === 0x4949;
  const start = view.getUint32(4, isLittle);
  if (start + 2 > exif.length) return 1;
  const count = view.getUint16(start, isLittle);
  for (let entry = start + 2; entry < start + 2 + 12 * count && entry + 12 <= exif.length; entry += 12) {
    const value = view.getUint16(entry + 8, isLittle);
    if (view.getUint16(entry, isLittle) === 0x112 && value >= 1 && value <= 8) return value;
  }
  return 1;
}

/** Return the description of an ICC profile, or undefined. @param {Uint8Array} [profile] */
export function profileName(profile) {
  if (!profile || profile.length < 132) return undefined;
  const view = new DataView(profile.buffer, profile.byteOffset, profile.byteLength);
  const text = (at, length) => String.fromCharCode(...profile.subarray(at, at + length));
  for (let tag = 0; tag < Math.min(view.getUint32(128), 100); tag++) {
    const entry = 132 + 12 * tag;
    if (entry + 12 > profile.length) return undefined;
    const at = view.getUint32(entry + 4);
    if (text(entry, 4) !== 'desc' || at + 28 > profile.length) continue;
    if (text(at, 4) === 'desc') return text(at + 12, Math.min(view.getUint32(at + 8), 200)).replace(/\0[^]*$/, '');
    if (text(at, 4) !== 'mluc') return undefined;
    const [length, from] = [Math.min(view.getUint32(at + 20), 400), at + view.getUint32(at + 24)];
    if (from + length > profile.length) return undefined;
    return new TextDecoder('utf-16be').decode(profile.subarray(from, from + length));
  }
  return undefined;
}
