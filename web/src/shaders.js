/**
 * The exact layers of FORMAT.md section 7.7 in WGSL, which promises less than they need: it may fuse a product with a sum, and gives a quotient
 * to 2.5 units in the last place. So `fenced` keeps operations apart, and `quotient` ends in integers. The sums of convolutions are whole numbers below
 * 2**24, or two such sums, which come out the same in any order, fused or not. Features are (positions, channels), four channels a vector.
 */
const COMMON = `
struct Parameters {
  positions: u32,
  inputs: u32, // vectors a position
  outputs: u32,
  pitch: u32, // vectors a row of weights
  width: u32,
  height: u32,
  activation: u32, // 0 none, 1 silu, 2 hardswish
  zero: u32, // 0, which the compiler does not know
  levels: f32,
}
@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> result: array<vec4f>;

fn fenced(v: vec4f) -> vec4f {
  return bitcast<vec4f>(bitcast<vec4u>(v) ^ vec4u(p.zero));
}
`;

/** Inputs in whole steps: clamp(round(act(x) * scale)). */
const ROUND = `${COMMON}
@group(0) @binding(3) var<storage, read> scale: array<vec4f>;

// a / b, rounded to the nearest, halves to even, for normal a and b > 0.
fn quotient(a: f32, b: f32) -> f32 {
  let above = bitcast<u32>(a) & 0x7fffffffu;
  let below = bitcast<u32>(b);
  if (above == 0u) { return a; }
  let divisor = (below & 0x7fffffu) | 0x800000u;
  var dividend = (above & 0x7fffffu) | 0x800000u;
  var exponent = (above >> 23u) - (below >> 23u) + 127u;
  if (dividend < divisor) {
    dividend = dividend << 1u;
    exponent = exponent - 1u;
  }
  var q = u32(f32(dividend) / f32(divisor) * 8388608.0); // may be a few off
  var rest = bitcast<i32>((dividend << 23u) - q * divisor); // below 2**31, so the lost bits do not matter
  for (var k = 0; k < 8 && rest < 0; k++) {
    q = q - 1u;
    rest = rest + i32(divisor);
  }
  for (var k = 0; k < 8 && rest >= i32(divisor); k++) {
    q = q + 1u;
    rest = rest - i32(divisor);
  }
  let twice = 2 * rest - i32(divisor);
  if (twice > 0 || (twice == 0 && (q & 1u) == 1u)) { q = q + 1u; }
  return bitcast<f32>((bitcast<u32>(a) & 0x80000000u) | ((exponent << 23u) + (q - 0x800000u)));
}

fn activated(v: vec4f) -> vec4f {
  if (p.activation == 1u) {
    let t = clamp(v, vec4f(-8.0), vec4f(8.0));
    let u = fenced(t * t);
    let above = fenced(fenced(u + 50.0) * t);
    let below = fenced(fenced(fenced(u + 269.0) * u) + 2631.0);
    let q = vec4f(quotient(above.x, below.x), quotient(above.y, below.y), quotient(above.z, below.z), quotient(above.w, below.w));
    return fenced(v * fenced(q + bitcast<f32>(HALF_BITSu)));
  }
  if (p.activation == 2u) {
    return fenced(v * clamp(fenced(v + 3.0), vec4f(0.0), vec4f(6.0)));
  }
  return v;
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= p.positions * p.inputs) { return; }
  let value = fenced(activated(x[id.x]) * scale[id.x % p.inputs]);
  result[id.x] = clamp(round(value), vec4f(-p.levels), vec4f(p.levels));
}
`.replace('HALF_BITS', String(new Uint32Array(Float32Array.of(912 / 23943).buffer)[0]));

/**
 * A 1x1 convolution, 32 positions by 64 outputs at a time. Where `isApart`, sums may be 2**24 and more: inputs and bias are taken apart into
 * 128 times an upper half and what is left, and 128 times the sum of the one, plus that of the other, is rounded once.
 */
const CONVOLVE = `${COMMON}
@group(0) @binding(3) var<storage, read> weight: array<vec4f>; // (inputs, pitch)
@group(0) @binding(4) var<storage, read> bias: array<vec4f>;
@group(0) @binding(5) var<storage, read> unit: array<vec4f>;
override isAdded = false;
override isApart = false;
const AT_ONCE = 4u; // vectors of inputs
var<workgroup> inputs: array<array<vec4f, 4>, 32>;
var<workgroup> uppers: array<array<vec4f, 4>, 32>;
var<workgroup> weights: array<array<vec4f, 16>, 16>;

fn upper(v: vec4f) -> vec4f {
  return trunc(v * 0.0078125);
}

@compute @workgroup_size(16, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) own: vec3u, @builtin(local_invocation_index) index: u32) {
  let output = 16u * group.y + own.x;
  var start = bias[output];
  let startHigh = upper(start);
  if (isApart) { start -= 128.0 * startHigh; }
  var sums = array<vec4f, 4>(start, start, start, start);
  var highs = array<vec4f, 4>(startHigh, startHigh, startHigh, startHigh);
  for (var first = 0u; first < p.inputs; first += AT_ONCE) {
    let position = 32u * group.x + index / AT_ONCE;
    let vector = first + index % AT_ONCE;
    var value = vec4f();
    if (position < p.positions && vector < p.inputs) { value = x[position * p.inputs + vector]; }
    if (isApart) {
      let high = upper(value);
      uppers[index / AT_ONCE][index % AT_ONCE] = high;
      value -= 128.0 * high;
    }
    inputs[index / AT_ONCE][index % AT_ONCE] = value;
    for (var k = index / 16u; k < 16u; k += 8u) { weights[k][index % 16u] = weight[(4u * first + k) * p.pitch + 16u * group.y + index % 16u]; }
    workgroupBarrier();
    for (var v = 0u; v < AT_ONCE; v++) {
      let w = mat4x4f(weights[4u * v][own.x], weights[4u * v + 1u][own.x], weights[4u * v + 2u][own.x], weights[4u * v + 3u][own.x]);
      for (var r = 0u; r < 4u; r++) {
        sums[r] += w * inputs[4u * own.y + r][v];
        if (isApart) { highs[r] += w * uppers[4u * own.y + r][v]; }
      }
    }
    workgroupBarrier();
  }
  if (output >= p.outputs) { return; }
  for (var r = 0u; r < 4u; r++) {
    let position = 32u * group.x + 4u * own.y + r;
    if (position >= p.positions) { continue; }
    var value = sums[r];
    if (isApart) { value = fenced(128.0 * highs[r] + value); }
    value *= unit[output]; // units are powers of two: this is exact, and so is what a sum is fused with
    if (isAdded) { value += result[position * p.outputs + output]; }
    result[position * p.outputs + output] = value;
  }
}
`;

/** A 3x3 convolution of each channel, zeros around. */
const SPACE = `${COMMON}
@group(0) @binding(3) var<storage, read> weight: array<vec4f>; // (9, channels)
@group(0) @binding(4) var<storage, read> bias: array<vec4f>;
@group(0) @binding(5) var<storage, read> unit: array<vec4f>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= p.positions * p.inputs) { return; }
  let channels = id.x % p.inputs;
  let row = i32(id.x / p.inputs / p.width);
  let column = i32(id.x / p.inputs % p.width);
  var sum = bias[channels];
  for (var dy = -1; dy <= 1; dy++) {
    for (var dx = -1; dx <= 1; dx++) {
      let r = row + dy;
      let c = column + dx;
      if (r < 0 || r >= i32(p.height) || c < 0 || c >= i32(p.width)) { continue; }
      let at = (u32(r) * p.width + u32(c)) * p.inputs + channels;
      sum += x[at] * weight[u32(3 * dy + dx + 4) * p.inputs + channels];
    }
  }
  result[id.x] = sum * unit[channels];
}
`;

/** Four times the channels to twice the rows and columns, times a factor a channel: (height, width, 4 C) -> (2 height, 2 width, C). */
const SHUFFLE = `${COMMON}
@group(0) @binding(3) var<storage, read> factor: array<vec4f>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= 4u * p.positions * p.outputs) { return; }
  let channels = id.x % p.outputs;
  let row = id.x / p.outputs / (2u * p.width);
  let column = id.x / p.outputs % (2u * p.width);
  let origin = ((row / 2u) * p.width + column / 2u) * p.inputs;
  let part = 2u * (row % 2u) + column % 2u;
  var value = vec4f();
  for (var c = 0u; c < 4u; c++) {
    if (4u * channels + c < p.inputs) { value[c] = x[origin + 4u * channels + c][part]; }
  }
  result[id.x] = value * factor[channels];
}
`;

export const SHADERS = { round: ROUND, convolve: CONVOLVE, space: SPACE, shuffle: SHUFFLE };
