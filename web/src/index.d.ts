/** Part of an image, in pixels. */
export interface Crop {
  left: number;
  top: number;
  width: number;
  height: number;
}

export interface Rows {
  /** The first of these rows of the result, and how many they are. */
  row: number;
  rows: number;
  /** Of the whole result. */
  width: number;
  height: number;
  /** RGBA, 8 bits. */
  data: Uint8ClampedArray;
}

export interface Start {
  width: number;
  height: number;
  /** Exif's, 1 to 8: pixels are as they are stored. */
  orientation: number;
  /** Description of the ICC profile. */
  colorProfile?: string;
}

export interface DecodeOptions {
  crop?: Crop;
  /** 1, 1/2, 1/4 or 1/8: each pixel is the mean of those it stands for. */
  scale?: number;
  /** Larger images end in a LimitExceededError; 67,108,864 if not given, which take less than 1 GB. */
  maxPixels?: number;
  /** Decodes PNG and WebP; where there is no browser, files with alpha or lossless blocks need one. */
  decodeImage?: (bytes: Uint8Array, type: string) => Promise<{ width: number; height: number; data: Uint8ClampedArray }>;
  /** Called with what is known before the first pixel. */
  onStart?: (start: Start) => void;
  /** Called with rows as they are finished, from the top. */
  onRows?: (rows: Rows) => void;
}

/** Who makes pixels of the latent: a GPU where there is one, a software adapter, too, or WebAssembly alone. */
export type GpuChoice = 'hardware' | 'any' | 'none';

export interface ClientOptions extends Omit<DecodeOptions, 'decodeImage'> {
  /** Address of a weights file or, with a slash at its end, of a folder of them named DIGEST.safetensors; or its bytes. */
  weights: string | URL | Uint8Array;
  /** Address or bytes of kernels.wasm, where it does not lie beside the module. */
  wasm?: string | Uint8Array;
  /** Workers that share an image, 1 if not given: each takes a band of its rows, in memory of its own. */
  threads?: number;
  /** 'hardware' if not given. A GPU whose numbers are not those of WebAssembly is not used. */
  gpu?: GpuChoice;
  /** Makes the worker, where worker.js does not lie beside the module. */
  worker?: () => Worker;
}

export interface DecodedImage extends Start {
  /** RGBA, 8 bits, not premultiplied. */
  data: Uint8ClampedArray;
  /** What the file holds of iccProfile, exif and xmp. */
  metadata: Record<string, Uint8Array>;
  /** Whether a GPU made the pixels, which are the same ones. */
  isByGpu: boolean;
}

export interface Header {
  mode: number;
  units: number;
  width: number;
  height: number;
  digest: string;
  tile: number;
}

/** Why a file is not decoded: `name` is a class of FORMAT.md section 2.1. */
export class CodecError extends Error {
  constructor(name: string, message: string);
}

/** A model as it is stored. */
export class Weights {
  readonly digest: string;
}

/** Decode a file in a worker, which stays ready for more files of its model. */
export function decode(file: Uint8Array | ArrayBuffer, options: ClientOptions): Promise<DecodedImage & { imageData: ImageData }>;
export function addressOf(weights: string | URL, digest: string): string;
/** Read the size and the model of a file from its first 30 bytes. */
export function readHeader(bytes: Uint8Array, maxPixels?: number): Header;
export function loadWeights(bytes: Uint8Array): Promise<Weights>;

/** Decodes files of one model in the thread that calls it. */
export class Decoder {
  static load(weights: Weights | Uint8Array, wasm: BufferSource, gpu?: GpuChoice): Promise<Decoder>;
  readonly weights: Weights;
  decode(bytes: Uint8Array, options?: DecodeOptions): Promise<DecodedImage>;
}

/** Paints rows on a canvas as they come, turned as Exif says. */
export class Painting {
  constructor(canvas: HTMLCanvasElement, start: Start);
  add(rows: Rows): void;
}
