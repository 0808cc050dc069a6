// What is slow in a decoder, for WebAssembly with SIMD: the entropy coder, the scale head, and the
// layers of exact models. Section numbers are those of FORMAT.md.
//
// Features are stored position by position: the channels of one position lie side by side, in a
// stride that is a multiple of 4, with zeros behind the last channel.

#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define ROWS 4       // positions that a step of the matrix product takes
#define LANES 8      // outputs that it makes of each
#define AT_ONCE 48   // positions whose inputs stay in cache

extern uint8_t __heap_base;

EXPORT("heapBase") uint32_t heap_base(void) { return (uint32_t)&__heap_base; }

// ---- The entropy coder, sections 6.2 to 6.5 ----

typedef struct {
  const uint32_t *words;
  uint32_t left;
  uint64_t x;
} Coder;

static void refill(Coder *c) {
  if (c->x < (1ull << 32) && c->left) c->x = (c->x << 32) | c->words[--c->left];
}

static uint32_t pop(Coder *c, const uint32_t *starts, uint32_t entries) {
  uint32_t q = (uint32_t)(c->x & 0xffffff), low = 0, high = entries;
  while (high - low > 1) {
    uint32_t middle = (low + high) / 2;
    if (starts[middle] <= q) low = middle;
    else high = middle;
  }
  c->x = (c->x >> 24) * (starts[low + 1] - starts[low]) + q - starts[low];
  refill(c);
  return low;
}

static uint32_t pop_value(Coder *c) {
  uint32_t q = (uint32_t)(c->x & 0xffffff);
  c->x = (c->x >> 24) * 256 + q % 256;
  refill(c);
  return q / 256;
}

// Start a coder of `count` words; `state` has room for a Coder.
EXPORT("startCoder") void start_coder(Coder *state, const uint32_t *words, uint32_t count) {
  state->words = words;
  state->left = count;
  state->x = 0;
  while (state->x < (1ull << 32) && state->left)
    state->x = (state->x << 32) | state->words[--state->left];
}

// Return whether all was read.
EXPORT("isAtEnd") int is_at_end(const Coder *state) { return state->x == 0 && state->left == 0; }

// Decode a section: symbols[i] by the table indexes[i]. Table t has the entries firsts[t] to
// firsts[t + 1] - 1 of `starts`, none if it is empty. `order` and `escaped` have room for all
// symbols, `begins` for a number more than there are tables.
EXPORT("decodeSection")
void decode_section(Coder *state, const uint32_t *starts, const uint32_t *firsts, uint32_t tables,
                    const int32_t *indexes, int32_t *symbols, uint32_t count, uint32_t *order,
                    uint32_t *escaped, uint32_t *begins) {
  for (uint32_t t = 0; t <= tables; t++) begins[t] = 0;
  for (uint32_t i = 0; i < count; i++) begins[indexes[i] + 1]++;
  for (uint32_t t = 0; t < tables; t++) begins[t + 1] += begins[t];
  for (uint32_t i = 0; i < count; i++) order[begins[indexes[i]]++] = i;
  uint32_t escapes = 0;
  for (uint32_t k = 0; k < count; k++) {
    uint32_t i = order[k], table = (uint32_t)indexes[i];
    uint32_t first = firsts[table], length = firsts[table + 1] - first;
    if (!length) {
      symbols[i] = 0;
      continue;
    }
    uint32_t entries = length - 1, entry = pop(state, starts + first, entries);
    if (entry + 1 == entries) escaped[escapes++] = i;
    else symbols[i] = (int32_t)entry - (int32_t)(entries / 2 - 1);
  }
  for (uint32_t k = 0; k < escapes; k++)
    symbols[escaped[k]] = (int32_t)pop_value(state) - 32768;
}

// ---- The scale head, section 7.2: integers below 2**53 in float64 ----

// A layer's sums and their rounding: in (h, w, inputs) -> out (h, w, outputs), zeros around it;
// weights (side, side, inputs, outputs), outputs a multiple of 2. With `leaks`, max(a, a // 8).
EXPORT("scaleLayer")
void scale_layer(double *out, const double *in, const double *weights, const double *bias, int h,
                 int w, int inputs, int outputs, int side, int shift, int leaks) {
  int margin = side / 2;
  double half = (double)(1ull << (shift - 1)), unit = 1.0 / (double)(1ull << shift);
  for (int i = 0; i < h; i++)
    for (int j = 0; j < w; j++) {
      double *to = out + (long)(i * w + j) * outputs;
      for (int o = 0; o < outputs; o += 8) {
        int lanes = outputs - o < 8 ? (outputs - o) / 2 : 4;
        v128_t sums[4];
        for (int l = 0; l < lanes; l++) sums[l] = wasm_v128_load(bias + o + 2 * l);
        for (int dy = 0; dy < side; dy++)
          for (int dx = 0; dx < side; dx++) {
            int r = i + dy - margin, c = j + dx - margin;
            if (r < 0 || r >= h || c < 0 || c >= w) continue;
            const double *from = in + (long)(r * w + c) * inputs;
            const double *own = weights + (long)((dy * side + dx) * inputs) * outputs + o;
            if (lanes == 4) {
              v128_t a = sums[0], b = sums[1], d = sums[2], e = sums[3];
              for (int k = 0; k < inputs; k++, own += outputs) {
                v128_t x = wasm_f64x2_splat(from[k]);
                a = wasm_f64x2_add(a, wasm_f64x2_mul(x, wasm_v128_load(own)));
                b = wasm_f64x2_add(b, wasm_f64x2_mul(x, wasm_v128_load(own + 2)));
                d = wasm_f64x2_add(d, wasm_f64x2_mul(x, wasm_v128_load(own + 4)));
                e = wasm_f64x2_add(e, wasm_f64x2_mul(x, wasm_v128_load(own + 6)));
              }
              sums[0] = a, sums[1] = b, sums[2] = d, sums[3] = e;
            } else
              for (int k = 0; k < inputs; k++, own += outputs)
                for (int l = 0; l < lanes; l++)
                  sums[l] = wasm_f64x2_add(sums[l], wasm_f64x2_mul(wasm_f64x2_splat(from[k]),
                                                                   wasm_v128_load(own + 2 * l)));
          }
        for (int l = 0; l < lanes; l++) {
          v128_t a = wasm_f64x2_floor(wasm_f64x2_mul(wasm_f64x2_add(sums[l], wasm_f64x2_splat(half)),
                                                     wasm_f64x2_splat(unit)));
          a = wasm_f64x2_max(wasm_f64x2_min(a, wasm_f64x2_splat(32767)), wasm_f64x2_splat(-32767));
          if (leaks) a = wasm_f64x2_max(a, wasm_f64x2_floor(wasm_f64x2_mul(a, wasm_f64x2_splat(0.125))));
          wasm_v128_store(to + o + 2 * l, a);
        }
      }
    }
}

// Scale indexes of a tile: a (rows, columns, channels), of which h and w are used, and offsets, to
// indexes ordered (channel, row, column).
EXPORT("scaleIndexes")
void scale_indexes(int32_t *indexes, const double *a, const double *offsets, int columns, int h,
                   int w, int channels) {
  for (int c = 0; c < channels; c++)
    for (int i = 0; i < h; i++)
      for (int j = 0; j < w; j++) {
        double value = a[(long)(i * columns + j) * channels + c] + offsets[c] + 128;
        value = __builtin_floor(value / 256);
        *indexes++ = value < 0 ? 0 : value > 63 ? 63 : (int32_t)value;
      }
}

// ---- Exact layers, section 7.7 ----

static v128_t activated(v128_t v, int activation) {
  if (activation == 1) {
    v128_t t = wasm_f32x4_max(wasm_f32x4_min(v, wasm_f32x4_splat(8)), wasm_f32x4_splat(-8));
    v128_t u = wasm_f32x4_mul(t, t);
    v128_t above = wasm_f32x4_mul(wasm_f32x4_add(u, wasm_f32x4_splat(50)), t);
    v128_t below = wasm_f32x4_mul(wasm_f32x4_add(u, wasm_f32x4_splat(269)), u);
    below = wasm_f32x4_add(below, wasm_f32x4_splat(2631));
    v128_t half = wasm_f32x4_splat((float)(912.0 / 23943.0));
    return wasm_f32x4_mul(v, wasm_f32x4_add(wasm_f32x4_div(above, below), half));
  }
  if (activation == 2) {
    v128_t t = wasm_f32x4_add(v, wasm_f32x4_splat(3));
    t = wasm_f32x4_max(wasm_f32x4_min(t, wasm_f32x4_splat(6)), wasm_f32x4_splat(0));
    return wasm_f32x4_mul(v, t);
  }
  return v;
}

// An input in whole steps: clamp(round(act(x) * scale)), scale 0 standing for no product.
// Activations: 0 none, 1 silu, 2 hardswish.
static v128_t rounded(const float *in, const float *scale, float levels, int activation) {
  v128_t v = activated(wasm_v128_load(in), activation);
  if (scale) v = wasm_f32x4_mul(v, wasm_v128_load(scale));
  v128_t top = wasm_f32x4_splat(levels), bottom = wasm_f32x4_splat(-levels);
  return wasm_f32x4_max(wasm_f32x4_min(wasm_f32x4_nearest(v), top), bottom);
}

EXPORT("roundToFloats")
void round_to_floats(float *out, const float *in, const float *scale, int positions, int stride,
                     float levels, int activation) {
  for (int p = 0; p < positions; p++, in += stride, out += stride)
    for (int c = 0; c < stride; c += 4)
      wasm_v128_store(out + c, rounded(in + c, scale ? scale + c : 0, levels, activation));
}

EXPORT("roundToInts")
void round_to_ints(int16_t *out, const float *in, const float *scale, int positions, int stride,
                   float levels, int activation) {
  for (int p = 0; p < positions; p++, in += stride, out += stride)
    for (int c = 0; c < stride; c += 4) {
      v128_t v = rounded(in + c, scale ? scale + c : 0, levels, activation);
      v = wasm_i32x4_trunc_sat_f32x4(v);
      wasm_v128_store64_lane(out + c, wasm_i16x8_narrow_i32x4(v, v), 0);
    }
}

// What inputs 2 d and 2 d + 1 of a row add to its sums.
#define ADD(r, d)                                         \
  x = wasm_v128_load32_splat(f##r + 2 * (d));             \
  a##r = wasm_i32x4_add(a##r, wasm_i32x4_dot_i16x8(x, w0)); \
  b##r = wasm_i32x4_add(b##r, wasm_i32x4_dot_i16x8(x, w1));

#define LOAD(d)                                   \
  w0 = wasm_v128_load(own + 2 * (d) * LANES);     \
  w1 = wasm_v128_load(own + 2 * (d) * LANES + 8);

// What all inputs of four rows add to their sums, or of the first of them.
#define ALL_ROWS                                                                     \
  own = block, f0 = from, f1 = f0 + in_stride, f2 = f1 + in_stride, f3 = f2 + in_stride; \
  for (int k = 0; k < in_stride; k += 4) {                                           \
    LOAD(0) ADD(0, 0) ADD(1, 0) ADD(2, 0) ADD(3, 0)                                  \
    LOAD(1) ADD(0, 1) ADD(1, 1) ADD(2, 1) ADD(3, 1)                                  \
    own += 4 * LANES, f0 += 4, f1 += 4, f2 += 4, f3 += 4;                            \
  }

#define FIRST_ROW                                       \
  own = block, f0 = from;                               \
  for (int k = 0; k < in_stride; k += 4) {              \
    LOAD(0) ADD(0, 0)                                   \
    LOAD(1) ADD(0, 1)                                   \
    own += 4 * LANES, f0 += 4;                          \
  }

static void put_half(float *to, v128_t sum, const int32_t *bias, const float *units) {
  sum = wasm_f32x4_convert_i32x4(wasm_i32x4_add(sum, wasm_v128_load(bias)));
  wasm_v128_store(to, wasm_f32x4_mul(sum, wasm_v128_load(units)));
}

static void put(float *to, v128_t a, v128_t b, const int32_t *bias, const float *units, int is_wide) {
  put_half(to, a, bias, units);
  if (is_wide) put_half(to + 4, b, bias + 4, units + 4);
}

// A 1x1 convolution: a sum of weights times inputs, plus bias, is a whole number of an output's
// units below 2**31, which its conversion rounds. Weights lie in blocks of 8 outputs, each
// (in_stride / 2, 8, 2).
EXPORT("convolve")
void convolve(float *out, const int16_t *in, const int16_t *weights, const int32_t *bias, const float *units,
              int positions, int in_stride, int out_stride) {
  for (int start = 0; start < positions; start += AT_ONCE) {
    int end = start + AT_ONCE < positions ? start + AT_ONCE : positions;
    for (int o = 0; o < out_stride; o += LANES) {
      const int16_t *block = weights + (long)o * in_stride;
      int is_wide = out_stride - o > 4, p = start;
      const int16_t *own, *from, *f0, *f1, *f2, *f3;
      v128_t zero = wasm_i32x4_splat(0), w0, w1, x;
      for (; p + ROWS <= end; p += ROWS) {
        from = in + (long)p * in_stride;
        v128_t a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
        ALL_ROWS
        float *to = out + (long)p * out_stride + o;
        put(to, a0, b0, bias + o, units + o, is_wide);
        put(to + out_stride, a1, b1, bias + o, units + o, is_wide);
        put(to + 2 * out_stride, a2, b2, bias + o, units + o, is_wide);
        put(to + 3 * out_stride, a3, b3, bias + o, units + o, is_wide);
      }
      for (; p < end; p++) {
        from = in + (long)p * in_stride;
        v128_t a0 = zero, b0 = zero;
        FIRST_ROW
        put(out + (long)p * out_stride + o, a0, b0, bias + o, units + o, is_wide);
      }
    }
  }
}

// A 3x3 convolution of each channel, zeros around: weights (9, stride). Of h rows it makes `count`.
EXPORT("convolveInSpace")
void convolve_in_space(float *out, const float *in, const float *weights, const float *bias, int h,
                       int w, int stride, int first, int count) {
  for (int i = first; i < first + count; i++)
    for (int j = 0; j < w; j++, out += stride)
      for (int c = 0; c < stride; c += 4) {
        v128_t sum = wasm_v128_load(bias + c);
        for (int dy = 0; dy < 3; dy++)
          for (int dx = 0; dx < 3; dx++) {
            int r = i + dy - 1, s = j + dx - 1;
            if (r < 0 || r >= h || s < 0 || s >= w) continue;
            v128_t x = wasm_v128_load(in + (long)(r * w + s) * stride + c);
            sum = wasm_f32x4_add(sum, wasm_f32x4_mul(x, wasm_v128_load(weights + (dy * 3 + dx) * stride + c)));
          }
        wasm_v128_store(out + c, sum);
      }
}

EXPORT("add") void add(float *to, const float *from, int count) {
  for (int i = 0; i < count; i += 4)
    wasm_v128_store(to + i, wasm_f32x4_add(wasm_v128_load(to + i), wasm_v128_load(from + i)));
}

EXPORT("scaleChannels") void scale_channels(float *x, const float *factors, int positions, int stride) {
  for (int p = 0; p < positions; p++, x += stride)
    for (int c = 0; c < stride; c += 4)
      wasm_v128_store(x + c, wasm_f32x4_mul(wasm_v128_load(x + c), wasm_v128_load(factors + c)));
}

// shuffle 2 of section 7: (h, w, 4 channels) -> (2 h, 2 w, stride).
EXPORT("shuffle")
void shuffle(float *out, const float *in, int h, int w, int in_stride, int channels, int stride) {
  for (int i = 0; i < 2 * h; i++)
    for (int j = 0; j < 2 * w; j++, out += stride) {
      const float *from = in + (long)((i / 2) * w + j / 2) * in_stride + 2 * (i % 2) + j % 2;
      for (int c = 0; c < channels; c++) out[c] = from[4 * c];
      for (int c = channels; c < stride; c++) out[c] = 0;
    }
}

// One of the four steps of section 7.3: y_hat (h, w, stride) and what is known, the first channels
// of `joint`, at the elements of the step; symbols are ordered (channel, row, column).
EXPORT("exchange")
void exchange(float *y_hat, float *joint, const float *predicted, const float *units,
              const int32_t *symbols, int h, int w, int channels, int stride, int joint_stride, int step) {
  static const int order[4] = {0, 3, 1, 2};
  int quarter = channels / 4;
  for (int i = 0; i < h; i++)
    for (int j = 0; j < w; j++) {
      long p = i * w + j;
      for (int c = 0; c < channels; c++) {
        if (2 * (i % 2) + j % 2 != order[(step + c / quarter) % 4]) continue;
        float value = predicted[p * stride + c] * units[c] + (float)symbols[c * (long)(h * w) + p];
        y_hat[p * stride + c] = value;
        joint[p * joint_stride + c] = value / units[c];
      }
    }
}

// Levels of section 7.5: x (rows, w, 192) -> RGBA rows of `pitch` bytes, of which rows and columns are
// wanted; alpha becomes 255.
EXPORT("levels")
void levels(uint8_t *rgba, const float *x, int w, int rows, int columns, int pitch, int gray) {
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++) {
      const float *from = x + (long)((i / 8) * w + j / 8) * 192 + 8 * (i % 8) + j % 8;
      uint8_t *to = rgba + (long)i * pitch + 4 * j;
      float planes[3] = {from[0], from[64], from[128]};
      if (gray) {
        float sum = planes[0] + planes[1];
        sum = sum + planes[2];
        planes[0] = planes[1] = planes[2] = sum / 3;
      }
      for (int c = 0; c < 3; c++) {
        float level = __builtin_nearbyintf(planes[c] * 255);
        to[c] = level < 0 ? 0 : level > 255 ? 255 : (uint8_t)level;
      }
      to[3] = 255;
    }
}
