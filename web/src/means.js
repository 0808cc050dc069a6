/** From symbols to the latent of a tile, in four steps: FORMAT.md section 7.3. */
import { stride } from './layers.js';

export class Means {
  /** @param {import('./layers.js').Layers} layers @param {import('./weights.js').Weights} weights */
  constructor(layers, weights) {
    Object.assign(this, { layers, kernels: layers.kernels, run: layers.run, config: weights.config });
    const gains = layers.factors('inverse_gain.values');
    const std = weights.values('latent_std');
    this.units = layers.channels([...std].map((value, c) => Math.fround(value / gains[c])));
    this.featureGain = layers.channels(layers.factors('mean_features.gain.values'));
  }

  /** Write the y_hat of a tile (h, w, stride), zeros before, to an address. */
  dequantize(yHat, { z, y }, h, w) {
    const { kernels, run, config, layers } = this;
    const { hyper_channels: N, latent_channels: M, context_channels: W } = config;
    const joint = stride(M + N);
    kernels.within(() => {
      const features = kernels.zeros(h * w * stride(N));
      const context = kernels.zeros(h * w * joint);
      this.#features(features, context, z, h, w);
      const predicted = kernels.reserve(4 * h * w * stride(M));
      for (let step = 0; step < 4; step++)
        kernels.within(() => {
          if (step === 0) {
            layers.convolve('mean_context.first', predicted, features, h, w);
          } else {
            const [inner, spread] = [kernels.reserve(4 * h * w * stride(W)), kernels.reserve(4 * h * w * stride(W))];
            layers.convolve(`mean_context.enter.${step - 1}`, inner, context, h, w);
            layers.convolve('mean_context.spread', spread, inner, h, w);
            layers.block('mean_context.block', spread, h, w);
            layers.convolve('mean_context.leave', predicted, spread, h, w);
          }
          run.exchange(yHat, context, predicted, this.units, y, h, w, M, stride(M), joint, step);
        });
    });
  }

  /** Write the features of z, by themselves and as the last channels of the context. */
  #features(features, context, z, h, w) {
    const { kernels, run, config, layers } = this;
    const { hyper_channels: N, latent_channels: M } = config;
    const [rows, columns, joint] = [Math.ceil(h / 4), Math.ceil(w / 4), stride(M + N)];
    kernels.within(() => {
      const input = kernels.zeros(rows * columns * stride(N));
      const [from, to] = [kernels.view(Int32Array, z, N * rows * columns), kernels.view(Float32Array, input, rows * columns * stride(N))];
      for (let c = 0; c < N; c++) for (let p = 0; p < rows * columns; p++) to[p * stride(N) + c] = from[c * rows * columns + p];
      let f = layers.upsample('mean_features.up1', input, rows, columns, N);
      layers.block('mean_features.block1', f, 2 * rows, 2 * columns);
      f = layers.upsample('mean_features.up2', f, 2 * rows, 2 * columns, N);
      layers.block('mean_features.block2', f, 4 * rows, 4 * columns);
      run.scaleChannels(f, this.featureGain, 16 * rows * columns, stride(N));
      const [all, cut, both] = [
        kernels.view(Float32Array, f, 16 * rows * columns * stride(N)),
        kernels.view(Float32Array, features, h * w * stride(N)),
        kernels.view(Float32Array, context, h * w * joint),
      ];
      for (let i = 0; i < h; i++)
        for (let j = 0; j < w; j++) {
          const source = (i * 4 * columns + j) * stride(N);
          cut.set(all.subarray(source, source + stride(N)), (i * w + j) * stride(N));
          both.set(all.subarray(source, source + N), (i * w + j) * joint + M);
        }
    });
  }
}
