"""The pixels of a .cae file by NumPy alone: those of caecodec, bit for bit, if the model is exact.

python examples/cae_pixels.py FILE.cae WEIGHTS.safetensors OUT.png

Written from FORMAT.md, sections 5.1, 7.3 to 7.5 and 7.7; symbols come from `read_cae.py`. Alpha and
metadata are left out.
"""

import io
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from read_cae import (
    Tensors,
    check,
    decode_symbols,
    lossless_blocks,
    read_boxes,
    read_weights,
    tile_sides,
)

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
UNITS = {"silu": 23943 / 1824, "hardswish": 1 / 6}
ORDER = np.array([0, 3, 1, 2])


def silu(v: Floats) -> Floats:
    """Return SiLU in its unit."""
    t = v.clip(-8, 8)
    u = t * t
    return v * ((u + 50) * t / ((u + 269) * u + 2631) + np.float32(912 / 23943))


def hardswish(v: Floats) -> Floats:
    """Return hardswish in its unit."""
    return v * (v + 3).clip(0, 6)


def shuffle(a: Floats, f: int) -> Floats:
    """Move channel f f c + f dy + dx at (i, j) to channel c at (f i + dy, f j + dx)."""
    channels, height, width = a.shape[0] // f**2, *a.shape[1:]
    parts = a.reshape(channels, f, f, height, width).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(parts).reshape(channels, f * height, f * width)


def exponential(values: Doubles) -> Doubles:
    """Return e to the power of values, as section 7.7 has it."""
    v, e = values / 1024, np.ones_like(values)
    for k in range(9, 0, -1):
        e = e * v / k + 1
    for _ in range(10):
        e = e * e
    return e


class ExactNetworks:
    """The networks from symbols to levels at one quality."""

    def __init__(self, tensors: Tensors, activation: str, units: int) -> None:
        """Take the tensors of the weights file and the quality in hundredths."""
        self.tensors, self.units = tensors, units
        self.act, self.unit = {"silu": silu, "hardswish": hardswish}[activation], UNITS[activation]

    def table(self, name: str) -> Doubles:
        """Return a table's values in float64, one a channel."""
        rows = self.tensors[name].astype(np.float64)
        position = self.units * (len(rows) - 1)
        low = min(position // 10000, len(rows) - 2)
        part = position - 10000 * low
        return (rows[low] * (10000 - part) + rows[low + 1] * part) / 10000

    def factors(self, name: str) -> Floats:
        """Return exp(table(t)), (C, 1, 1)."""
        return exponential(self.table(name)).astype(np.float32)[:, None, None]

    def convolve(self, name: str, x: Floats) -> Floats:
        """Apply a layer, and before it the activation that it takes."""
        last = name.rpartition(".")[2]
        step = self.tensors[f"exact.{name}.step"].astype(np.float64)
        unit = 1.0
        if last in {"mix_space", "contract"}:
            x, unit = self.act(x), self.unit
        if last != "mix_out":
            x = x * (unit / step).astype(np.float32)[:, None, None]
        levels = np.float32(self.tensors[f"exact.{name}.levels"][0])
        weight, bias, scale = self.rounded(name, levels)
        a = np.rint(x).clip(-levels, levels).astype(np.float64)
        y = (in_space if weight.shape[2] == 3 else across)(weight, a) + bias
        return y.astype(np.float32) / scale.astype(np.float32)

    def rounded(self, name: str, levels: float) -> tuple[Doubles, Doubles, Doubles]:
        """Return W (out, in, k, k), B (out, 1, 1) and the units in a whole (out, 1, 1)."""
        weight, bias = (self.tensors[f"{name}.{part}"].astype(float) for part in ("weight", "bias"))
        step = self.tensors[f"exact.{name}.step"].astype(np.float64)[:, None, None]
        if f"{name}.gain.values" in self.tensors:
            gain = exponential(self.table(f"{name}.gain.values"))
            weight = weight * gain[:, None, None, None]
            bias = bias * gain + self.table(f"{name}.shift.values")
        is_depthwise = weight.shape[2] == 3
        weight = weight * (step[:, None] if is_depthwise else step)
        if name.endswith("mix_space"):
            following = self.tensors[f"exact.{name.replace('mix_space', 'mix_out')}.step"]
            weight = weight / following.astype(np.float64)[:, None, None, None]
            bias = bias / following
        scale = 2.0 ** self.tensors[f"exact.{name}.shift"].astype(np.float64)
        weight, bias = np.rint(weight * scale[:, None, None, None]), np.rint(bias * scale)
        reached = np.abs(weight).sum((1, 2, 3)) * levels + np.abs(bias)
        fits = reached.max() < 2 ** (24 if is_depthwise else 31)
        fits &= np.abs(weight).max() < 2**15 and np.abs(bias).max() < 2**24
        check(bool(fits), f"sums of layer {name} are too large")
        return weight, bias[:, None, None], scale[:, None, None]

    def block(self, name: str, x: Floats) -> Floats:
        """Apply a block."""
        h = self.convolve(f"{name}.mix_space", self.convolve(f"{name}.mix_in", x))
        x = self.convolve(f"{name}.mix_out", h) + x
        if f"{name}.expand.weight" in self.tensors:
            x = x + self.convolve(f"{name}.contract", self.convolve(f"{name}.expand", x))
        return x

    def y_hat(self, z: NDArray[np.int64], symbols: NDArray[np.int64]) -> Floats:
        """Return y_hat of one tile (section 7.3)."""
        channels, height, width = symbols.shape
        f = shuffle(self.convolve("mean_features.up1", z.astype(np.float32)), 2)
        f = self.block("mean_features.block1", f)
        f = shuffle(self.convolve("mean_features.up2", f), 2)
        f = self.block("mean_features.block2", f) * self.factors("mean_features.gain.values")
        f = f[:, :height, :width]
        std = self.tensors["latent_std"].astype(np.float32)[:, None, None]
        unit = std / self.factors("inverse_gain.values")
        y_hat, known = (np.zeros(symbols.shape, np.float32) for _ in range(2))
        m, i, j = np.ogrid[:channels, :height, :width]
        for s in range(4):
            if s == 0:
                predicted = self.convolve("mean_context.first", f)
            else:
                h = self.convolve(f"mean_context.enter.{s - 1}", np.concatenate((known, f)))
                h = self.block("mean_context.block", self.convolve("mean_context.spread", h))
                predicted = self.convolve("mean_context.leave", h)
            is_own = 2 * (i % 2) + j % 2 == ORDER[(s + m // (channels // 4)) % 4]
            y_hat = np.where(is_own, predicted * unit + symbols.astype(np.float32), y_hat)
            known = np.where(is_own, y_hat / unit, known)
        return y_hat

    def levels(self, y_hat: Floats, *, is_gray: bool) -> NDArray[np.uint8]:
        """Return the levels of the whole latent, (H, W, 3) or (H, W) (sections 7.4 and 7.5)."""
        g = self.convolve("synthesis.project", y_hat * self.factors("inverse_gain.values"))
        g = self.blocks("synthesis.latent_blocks", g)
        g = shuffle(self.convolve("synthesis.up", g), 2) * self.factors("synthesis.gain.values")
        x = shuffle(self.convolve("synthesis.patch", self.blocks("synthesis.blocks", g)), 8)
        planes = (x[0] + x[1] + x[2]) / 3 if is_gray else x.transpose(1, 2, 0)
        return np.rint(planes * 255).clip(0, 255).astype(np.uint8)

    def blocks(self, name: str, x: Floats) -> Floats:
        """Apply the blocks of that name in order."""
        k = 0
        while f"{name}.{k}.mix_in.weight" in self.tensors:
            x, k = self.block(f"{name}.{k}", x), k + 1
        return x


def across(weight: Doubles, a: Doubles) -> Doubles:
    """Return the sums over channels: (out, in, 1, 1) of (in, h, w)."""
    return (weight[..., 0, 0] @ a.reshape(len(a), -1)).reshape(-1, *a.shape[1:])


def in_space(weight: Doubles, a: Doubles) -> Doubles:
    """Return the sums over 3x3 positions, channel by channel, zeros around."""
    height, width = a.shape[1:]
    padded = np.pad(a, ((0, 0), (1, 1), (1, 1)))
    total = np.zeros_like(a)
    for dy in range(3):
        for dx in range(3):
            window = padded[:, dy : dy + height, dx : dx + width]
            total += weight[:, 0, dy, dx, None, None] * window
    return total


def put_lossless(pixels: NDArray[np.uint8], content: bytes, side: int) -> None:
    """Put the lossless blocks of a tile in their place (section 5.1)."""
    height, width = pixels.shape[:2]
    blocks, block = lossless_blocks(content, side, height, width), 2 ** content[0]
    mask = np.kron(blocks, np.ones((block, block), bool))[:height, :width]
    image = content[1 + -(-blocks.size // 8) :]
    stored = np.asarray(Image.open(io.BytesIO(image)))
    pixels[mask] = (stored if pixels.ndim == 3 else stored[..., 0])[mask]


def decode_pixels(file: bytes, weights: bytes) -> NDArray[np.uint8]:
    """Return the pixels (height, width, 3), or (height, width) of a gray image."""
    (header, _, lossless), (tensors, config) = read_boxes(file), read_weights(weights)
    check("exact.synthesis.patch.step" in tensors, "not an exact model of the main kind")
    networks = ExactNetworks(tensors, config.get("activation", "silu"), header["units"])
    decoded = decode_symbols(file, weights)
    columns = -(-header["width"] // header["tile"])
    tiles = list(zip(decoded, tile_sides(header, 16), tile_sides(header, 1), strict=True))
    latent = config["latent_channels"]
    y_hat = [
        networks.y_hat(z, y) if z.size else np.zeros((latent, *sides), np.float32)
        for (z, y), sides, _ in tiles
    ]
    rows = [np.concatenate(y_hat[k : k + columns], 2) for k in range(0, len(y_hat), columns)]
    pixels = networks.levels(np.concatenate(rows, 1), is_gray=header["mode"] in {1, 2})
    pixels = pixels[: header["height"], : header["width"]]
    for number, content in lossless.items():
        top, left = (header["tile"] * k for k in divmod(number, columns))
        height, width = tiles[number][2]
        put_lossless(pixels[top : top + height, left : left + width], content, header["tile"])
    return pixels


if __name__ == "__main__":
    file, weights = (Path(name).read_bytes() for name in sys.argv[1:3])
    Image.fromarray(decode_pixels(file, weights)).save(sys.argv[3])
