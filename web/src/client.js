/** Decodes in workers, so that a page stays responsive: one for each model, made when first wanted. */
import { readHeader } from './container.js';
import { CodecError, check } from './errors.js';

const CACHE = 'caecodec-weights-1';
const workers = new Map();

/**
 * Decode a .cae file in a worker.
 * @param {Uint8Array | ArrayBuffer} file
 * @param {import('./index.js').ClientOptions} options
 * @returns {Promise<import('./index.js').DecodedImage & {imageData: ImageData}>}
 */
export async function decode(file, { weights, wasm, worker, onRows, onStart, ...options }) {
  const bytes = file instanceof Uint8Array ? file : new Uint8Array(file);
  const { digest } = readHeader(bytes, options.maxPixels);
  const key = weights instanceof Uint8Array ? weights : addressOf(weights, digest);
  if (!workers.has(key)) workers.set(key, start(key, { wasm, worker }));
  let own;
  try {
    own = await workers.get(key);
  } catch (error) {
    workers.delete(key); // a later try fetches them again
    throw error;
  }
  const result = await own.ask({ bytes, options, wantsRows: Boolean(onRows || onStart) }, { onRows, onStart });
  return { ...result, imageData: new ImageData(result.data, result.width, result.height) };
}

/** Return the address of a model's weights: below a folder, whose address ends in a slash, they are named by digest. */
export function addressOf(weights, digest) {
  check(weights, 'ModelError', 'no weights were named: give their address, or that of a folder of them');
  const address = String(weights);
  return new URL(address.endsWith('/') ? `${address}${digest}.safetensors` : address, document.baseURI).href;
}

async function start(weights, { wasm = new URL('kernels.wasm', import.meta.url).href, worker }) {
  const own = new Connection(worker?.() ?? new Worker(new URL('worker.js', import.meta.url), { type: 'module' }));
  const kernels = typeof wasm === 'string' ? await fetched(wasm) : wasm;
  if (weights instanceof Uint8Array) {
    await own.ask({ load: { weights, wasm: kernels } });
    return own;
  }
  try {
    await own.ask({ load: { weights: await fetched(weights, CACHE), wasm: kernels } });
  } catch (error) {
    if (error.name !== 'ModelError' || typeof caches === 'undefined') throw error;
    await (await caches.open(CACHE)).delete(weights); // damaged in the cache, perhaps
    await own.ask({ load: { weights: await fetched(weights, CACHE), wasm: kernels } });
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
