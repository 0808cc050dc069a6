/** Files that are no longer what they were, for Node and for browsers. */
import { crc32 } from '../src/container.js';
import { CodecError } from '../src/errors.js';

const MAX_PIXELS = 500_000;

/** Return numbers from 0 to below `bound` that are the same in each run. */
function random(seed) {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

/** Return the file with bytes changed, cut, repeated or taken from another one. */
function mutate(bytes, other, draw) {
  const changed = [...bytes];
  for (let times = 1 + draw(4); times; times--) {
    const at = draw(changed.length);
    const kind = draw(5);
    if (kind === 0) changed[at] ^= 1 << draw(8);
    if (kind === 1) changed[at] = [0, 1, 127, 128, 255][draw(5)];
    if (kind === 2) changed.splice(at, 1 + draw(8));
    if (kind === 3) changed.splice(at, 0, ...changed.slice(at, at + 1 + draw(8)));
    if (kind === 4) changed.splice(at, 4, ...other.slice(at, at + 4));
  }
  return Uint8Array.from(changed);
}

/** Make the checksums right again, so that what follows them is reached. */
export function repair(bytes) {
  if (bytes.length < 30) return bytes;
  const view = new DataView(bytes.buffer);
  view.setUint32(26, crc32(bytes.subarray(0, 26)), true);
  for (let offset = 30; offset + 8 <= bytes.length; ) {
    const end = offset + 8 + view.getUint32(offset + 4, true);
    if (end + 4 > bytes.length) break;
    view.setUint32(end, crc32(bytes.subarray(offset, end)), true);
    offset = end + 4;
  }
  return bytes;
}

/** Decode files that are no longer what they were, and count what comes of them. */
async function attack(count, corpus, decode, seed) {
  const draw = random(seed);
  const outcomes = {};
  for (let number = 0; number < count; number++) {
    const bytes = mutate(corpus[draw(corpus.length)], corpus[draw(corpus.length)], draw);
    if (draw(4)) repair(bytes);
    let outcome = 'decoded';
    try {
      await decode(bytes);
    } catch (error) {
      if (!(error instanceof CodecError)) throw new Error(`file ${number}: ${error.stack}`);
      outcome = error.name;
    }
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  }
  return outcomes;
}

function expect(isTrue, text) {
  if (!isTrue) throw new Error(text);
}

/** Attack the toy model's files; each ends in an error by name or in symbols. Returns how many ended how. */
export async function attackToy(toy, files, count = 1750) {
  const small = files.filter(({ length }) => length < 4000);
  const outcomes = await attack(count, small, (bytes) => toy.symbols(bytes, { maxPixels: MAX_PIXELS }), 1);
  for (const name of ['TruncatedError', 'ChecksumMismatchError', 'FormatError', 'DesyncError']) expect(outcomes[name] > 10, `${name} does not occur`);
  return outcomes;
}

/** Attack a shipped model's files; each ends in an error by name or in pixels, in little memory. Returns how many ended how. */
export async function attackShipped(decoder, files, count = 250) {
  const outcomes = await attack(count, files, (bytes) => decoder.decode(bytes, { maxPixels: MAX_PIXELS }), 2);
  expect(outcomes.DesyncError > 10, 'DesyncError does not occur');
  expect(decoder.kernels.memory.buffer.byteLength < 2 ** 28, 'decoding takes more than 256 MB');
  return outcomes;
}
