/** Decodes .cae images. FORMAT.md says what the numbers of sections mean. */
export { addressOf, decode } from './client.js';
export { readHeader } from './container.js';
export { Decoder } from './decoder.js';
export { CodecError } from './errors.js';
export { Painting } from './painting.js';
export { Weights, loadWeights } from './weights.js';
