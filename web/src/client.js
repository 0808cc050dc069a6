/** Decodes in workers, so that a page stays responsive. */
import { readHeader } from './container.js';
import { CodecError, check } from './errors.js';

const CACHE = 'caecodec-weights-1';
const BAND_ROWS = 128; // whole pixels at every scale
const workers = new Map();

/**
 * Decode a .cae file in workers.
 * @param {Uint8Array | ArrayBuffer} file
 * @param {import('./index.js').ClientOptions} options
 * @returns {Promise<import('./index.js').DecodedImage & {imageData: ImageData}>}
 */
export async function decode(file, { weights, wasm, worker, gpu = 'hardware', threads = 1, onRows, onStart, ...options }) {
  const bytes = file instanceof Uint8Array ? file : new Uint8Array(file);
  const header = readHeader(bytes, options.maxPixels);
  const key = weights instanceof Uint8Array ? weights : addressOf(weights, header.digest);
  const { scale = 1 } = options;
  const window = options.crop ?? { left: 0, top: 0, width: header.width, height: header.height };
  const bands = bandsOf(window, threads);
  const connections = await Promise.all(bands.map((_, number) => workerOf(key, `${number}, ${gpu}`, { wasm, worker, gpu })));
  const whole = { width: Math.ceil(window.width * scale), height: Math.ceil(window.height * scale) };
  let isStarted = false;
  const begin = (start) => isStarted || ((isStarted = true), onStart?.({ ...start, ...whole }));
  const results = await Promise.all(
    bands.map((crop, number) => {
      const first = (crop.top - window.top) * scale;
      const listeners = {
        onStart: begin,
        onRows: (rows) => onRows?.({ ...rows, row: first + rows.row, ...whole }),
      };
      const isWhole = bands.length === 1 && !options.crop;
      const own = isWhole ? options : { ...options, crop };
      return connections[number].ask({ bytes, options: own, wantsRows: Boolean(onRows || onStart) }, listeners);
    }),
  );
  const data = results.length === 1 ? results[0].data : joined(results.map((result) => result.data));
  return { ...results[0], ...whole, data, imageData: new ImageData(data, whole.width, whole.height) };
}

/** Divide a window into as many bands of rows as there are threads, or fewer. */
function bandsOf(window, threads) {
  const rows = BAND_ROWS * Math.ceil(window.height / threads / BAND_ROWS);
  const count = Math.max(1, Math.ceil(window.height / rows) || 1);
  return Array.from({ length: count }, (_, number) => {
    const top = number * rows;
    return { ...window, top: window.top + top, height: Math.min(rows, window.height - top) };
  });
}

function joined(parts) {
  const whole = new Uint8ClampedArray(parts.reduce((size, part) => size + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

/** Return a worker that has a model, one for each name, made when first wanted. */
async function workerOf(key, name, settings) {
  if (!workers.has(key)) workers.set(key, {});
  const own = workers.get(key);
  own[name] ??= start(key, settings);
  try {
    return await own[name];
  } catch (error) {
    delete own[name]; // a later try fetches them again
    throw error;
  }
}

/** Return the address of a model's weights: below a folder, whose address ends in a slash, they are named by digest. */
export function addressOf(weights, digest) {
  check(weights, 'ModelError', 'no weights were named: give their address, or that of a folder of them');
  const address = String(weights);
  return new URL(address.endsWith('/') ? `${address}${digest}.safetensors` : address, document.baseURI).href;
}

async function start(weights, { wasm = new URL('kernels.wasm', import.meta.url).href, worker, gpu }) {
  const own = new Connection(worker?.() ?? new Worker(new URL('worker.js', import.meta.url), { type: 'module' }));
  const kernels = typeof wasm === 'string' ? await fetched(wasm) : wasm;
  if (weights instanceof Uint8Array) {
    await own.ask({ load: { weights, wasm: kernels, gpu } });
    return own;
  }
  try {
    await own.ask({ load: { weights: await fetched(weights, CACHE), wasm: kernels, gpu } });
  } catch (error) {
    if (error.name !== 'ModelError' || typeof caches === 'undefined') throw error;
    await (await caches.open(CACHE)).delete(weights); // damaged in the cache, perhaps
    await own.ask({ load: { weights: await fetched(weights, CACHE), wasm: kernels, gpu } });
  }
  return own;
}

/** Fetch bytes, once for all visits where there is a cache. */
async function fetched(address, cacheName) {
  const cache = cacheName && typeof caches !== 'undefined' ? await caches.open(cacheName).catch(() => undefined) : undefined;
  const known = await cache?.match(address);
  const response = known ?? (await fetch(address));
  check(response.ok, 'NetworkError', `${address} cannot be fetched: ${response.status}`);
  if (!known) await cache?.put(address, response.clone()).catch(() => {}); // full, perhaps
  return new Uint8Array(await response.arrayBuffer());
}

/** Questions to a worker and their answers. */
class Connection {
  constructor(worker) {
    Object.assign(this, { worker, pending: new Map(), last: 0 });
    worker.onmessage = ({ data: { id, rows, start, result, error } }) => {
      const { resolve, reject, onRows, onStart } = this.pending.get(id);
      if (rows) return onRows?.(rows);
      if (start) return onStart?.(start);
      this.pending.delete(id);
      if (error) reject(new CodecError(error.name, error.message));
      else resolve(result);
    };
    worker.onerror = ({ message }) => {
      for (const { reject } of this.pending.values()) reject(new CodecError('Error', message ?? 'the worker cannot be started'));
      this.pending.clear();
    };
  }

  ask(question, listeners = {}) {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject, ...listeners });
      this.worker.postMessage({ id, ...question });
    });
  }
}
