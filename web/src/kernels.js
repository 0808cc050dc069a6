/** The kernels of kernels.c, and the memory that they share with JavaScript. */
const PAGE = 65536;

/** Memory that is given out from its end on and given back all at once, down to a mark. */
export class Kernels {
  /** @param {BufferSource} wasm the bytes of kernels.wasm */
  static async load(wasm) {
    const memory = new WebAssembly.Memory({ initial: 16 });
    const { instance } = await WebAssembly.instantiate(wasm, { env: { memory } });
    return new Kernels(memory, instance.exports);
  }

  constructor(memory, run) {
    Object.assign(this, { memory, run, top: run.heapBase() });
  }

  /** Return the address of so many bytes, zeros only where said. */
  reserve(bytes) {
    const address = Math.ceil(this.top / 16) * 16;
    this.top = address + bytes;
    const missing = this.top - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / PAGE));
    return address;
  }

  /** Return the address of so many floats that are zero. */
  zeros(count) {
    const address = this.reserve(4 * count);
    this.view(Float32Array, address, count).fill(0);
    return address;
  }

  /** Return what a function returns, and give back what it has reserved. */
  within(work) {
    const mark = this.top;
    try {
      return work();
    } finally {
      this.top = mark;
    }
  }

  /** Return a view of numbers at an address; it ends with the next `reserve`. */
  view(type, address, count) {
    return new type(this.memory.buffer, address, count);
  }

  /** Reserve memory for numbers and copy them there. */
  put(type, numbers) {
    const address = this.reserve(numbers.length * type.BYTES_PER_ELEMENT);
    this.view(type, address, numbers.length).set(numbers);
    return address;
  }
}
