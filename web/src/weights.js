/** Weights files: safetensors, checked by digest. FORMAT.md sections 6.1, 6.2 and 12. */
import { CodecError, check } from './errors.js';

const TYPES = {
  F16: { bytes: 2, name: 'f2', read: (view, at) => half(view.getUint16(at, true)) },
  F32: { bytes: 4, name: 'f4', read: (view, at) => view.getFloat32(at, true) },
  I8: { bytes: 1, name: 'i1', read: (view, at) => view.getInt8(at) },
  I16: { bytes: 2, name: 'i2', read: (view, at) => view.getInt16(at, true) },
  I32: { bytes: 4, name: 'i4', read: (view, at) => view.getInt32(at, true) },
  I64: { bytes: 8, name: 'i8', read: (view, at) => Number(view.getBigInt64(at, true)) },
  U16: { bytes: 2, name: 'u2', read: (view, at) => view.getUint16(at, true) },
};

function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction;
  return bits & 0x8000 ? -size : size;
}

/** A model as it is stored. */
export class Weights {
  /** @param {Uint8Array} bytes of a safetensors file @param {string} digest of the model, which files name */
  constructor(entries, bytes, start, config, digest) {
    Object.assign(this, { entries, bytes, start, config, digest });
  }

  has(name) {
    return name in this.entries;
  }

  shape(name) {
    return this.#entry(name).shape;
  }

  /** Return the values of a tensor, in row-major order. @returns {Float64Array} */
  values(name) {
    const { dtype, shape, data_offsets: [begin] } = this.#entry(name);
    const { bytes, read } = TYPES[dtype];
    const view = new DataView(this.bytes.buffer, this.bytes.byteOffset + this.start + begin);
    const count = shape.reduce((product, side) => product * side, 1);
    return Float64Array.from({ length: count }, (_, k) => read(view, k * bytes));
  }

  #entry(name) {
    check(this.has(name), 'ModelError', `the weights have no ${name}`);
    return this.entries[name];
  }
}

/**
 * Read a weights file and compute its digest.
 * @param {Uint8Array} bytes
 * @returns {Promise<Weights>}
 */
export async function loadWeights(bytes) {
  const { start, metadata, entries, config } = readTensors(bytes);
  const isWeb = metadata.format === 'caecodec-web-1';
  check(isWeb || metadata.format === 'caecodec-weights-1', 'ModelError', 'this is not a caecodec weights file');
  const digest = await digestOf(entries, bytes, start);
  check(!isWeb || digest === metadata.digest, 'ModelError', 'the weights are damaged: they do not have the digest that they name');
  return new Weights(entries, bytes, start, config, isWeb ? metadata.model : digest);
}

function readTensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const start = 8 + Number(view.getBigUint64(0, true));
    const { __metadata__: metadata, ...entries } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
    for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(entries)) {
      const size = shape.reduce((product, side) => product * side, TYPES[dtype].bytes);
      const isWhole = begin >= 0 && end - begin === size && start + end <= bytes.length;
      check(isWhole, 'ModelError', `tensor ${name} is not whole`);
    }
    return { start, metadata, entries, config: JSON.parse(metadata.config) };
  } catch (error) {
    throw error instanceof CodecError ? error : new CodecError('ModelError', 'this is not a weights file in safetensors');
  }
}

async function digestOf(entries, bytes, start) {
  const parts = [];
  for (const name of Object.keys(entries).sort()) {
    const { dtype, shape, data_offsets: [begin, end] } = entries[name];
    parts.push(new TextEncoder().encode(`${name} ${TYPES[dtype].name} [${shape.join(', ')}]\n`));
    parts.push(bytes.subarray(start + begin, start + end));
  }
  const whole = new Uint8Array(await new Blob(parts).arrayBuffer());
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', whole));
  return [...hash.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Return all CDF tables as `starts`, one after the other, and the first entry of each. */
export function tablesOf(weights) {
  const counts = weights.values('tables.counts');
  const starts = [];
  const firsts = [0];
  let next = 0;
  for (const length of weights.values('tables.lengths')) {
    let before = 0;
    for (let i = 0; i < length; i++) {
      starts.push(Math.floor((before * (2 ** 24 - length)) / 2 ** 16) + i);
      before += counts[next + i];
    }
    check(!length || before === 2 ** 16, 'ModelError', 'a CDF table does not sum to 65536');
    if (length) starts.push(2 ** 24);
    next += length;
    firsts.push(starts.length);
  }
  return { starts, firsts };
}
