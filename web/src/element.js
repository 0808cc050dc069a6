/** <cae-image src="photo.cae" weights="/models/" alt="…">: shows a .cae file as <img> shows others. */
import { readHeader } from './container.js';
import { decode } from './client.js';
import { check } from './errors.js';
import { Painting } from './painting.js';

const HEADER_BYTES = 30;

export class CaeImage extends HTMLElement {
  static observedAttributes = ['src', 'alt'];
  static defaults = { weights: undefined };

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    const style = document.createElement('style');
    style.textContent = ':host { display: inline-block } canvas { display: block; max-width: 100%; height: auto } canvas[hidden] { display: none }';
    this.canvas = document.createElement('canvas');
    this.text = document.createElement('span'); // stands in the place of an image that cannot be shown
    root.append(style, this.canvas, this.text);
    this.internals = this.attachInternals();
    this.internals.role = 'img';
  }

  attributeChangedCallback(name, _, value) {
    if (name === 'alt') this.internals.ariaLabel = value;
    if (name === 'src' && value !== null) this.#load(value);
  }

  /** Width and height in pixels as shown, 0 before they are known. */
  get naturalWidth() {
    return this.painting ? this.canvas.width : 0;
  }

  get naturalHeight() {
    return this.painting ? this.canvas.height : 0;
  }

  #state({ result, error }) {
    Object.assign(this, { result, error });
    this.text.textContent = error ? this.getAttribute('alt') : '';
    this.canvas.hidden = Boolean(error);
  }

  async #load(address) {
    const controller = new AbortController();
    this.loading?.abort();
    this.loading = controller;
    const isCurrent = () => this.loading === controller;
    try {
      const response = await fetch(address, { signal: controller.signal });
      check(response.ok, 'NetworkError', `${address} cannot be fetched: ${response.status}`);
      const bytes = await this.#read(response, isCurrent);
      const weights = this.getAttribute('weights') ?? CaeImage.defaults.weights;
      const result = await decode(bytes, {
        ...CaeImage.defaults,
        weights,
        onStart: (start) => isCurrent() && (this.painting = new Painting(this.canvas, start)),
        onRows: (rows) => isCurrent() && this.painting.add(rows),
      });
      if (!isCurrent()) return;
      this.#state({ result });
      this.dispatchEvent(new Event('load'));
    } catch (error) {
      if (!isCurrent()) return;
      this.#state({ error });
      this.dispatchEvent(new ErrorEvent('error', { error, message: error.message }));
    }
  }

  /** Read a file; its header alone gives the size, before anything else has come. */
  async #read(response, isCurrent) {
    const parts = [];
    let size = 0;
    let isSized = false;
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      size += value.length;
      if (!isSized && size >= HEADER_BYTES && isCurrent()) {
        const { width, height } = readHeader(new Uint8Array(await new Blob(parts).arrayBuffer()));
        Object.assign(this.canvas, { width, height });
        this.dispatchEvent(new CustomEvent('size', { detail: { width, height } }));
        isSized = true;
      }
    }
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  }
}

if (!customElements.get('cae-image')) customElements.define('cae-image', CaeImage);
