/** A decoder in a worker: takes weights once, then files. See client.js for what is sent. */
import { Decoder } from './decoder.js';

let decoder;

onmessage = async ({ data: { id, load, bytes, options, wantsRows } }) => {
  try {
    if (load) {
      decoder = await Decoder.load(load.weights, load.wasm, load.gpu);
      return postMessage({ id, result: decoder.weights.digest });
    }
    const listeners = {
      onStart: (start) => postMessage({ id, start }),
      onRows: (rows) => postMessage({ id, rows: { ...rows, data: rows.data.slice() } }),
    };
    const result = await decoder.decode(bytes, { ...options, ...(wantsRows ? listeners : {}) });
    postMessage({ id, result }, [result.data.buffer]);
  } catch (error) {
    postMessage({ id, error: { name: error.name, message: error.message } });
  }
};
