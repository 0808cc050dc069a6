"""What becomes of pixels and symbols where they turn into tensors, and back."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from caecodec.format.tables import IntArray
from caecodec.image.picture import Pixels


def to_unit(color: Pixels) -> Tensor:
    """Map uint8 (H, W) or (H, W, 3) to x (1, 3, H, W) in [0, 1]; gray is repeated."""
    rgb = color if color.ndim == 3 else np.repeat(color[..., None], 3, axis=2)
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255


def to_uint8(x_hat: Tensor, *, is_gray: bool) -> Pixels:
    """Clamp, round half to even, cast: (1, 3, H, W) to uint8 (H, W, 3), or (H, W) as the mean."""
    red, green, blue = x_hat[0]
    planes = (red + green + blue) / 3 if is_gray else x_hat[0].permute(1, 2, 0)
    levels: Pixels = (planes * 255).round_().clamp_(0, 255).to(torch.uint8).numpy()
    return levels


def flat(values: Tensor) -> IntArray:
    """Return int32 (n,), in coding order."""
    return values.reshape(-1).to(torch.int32).numpy()


def symbols_crc(*symbols: IntArray) -> int:
    """Return the CRC-32 of int32 little-endian symbols, z before y. FORMAT.md section 5."""
    crc = 0
    for values in symbols:
        crc = zlib.crc32(np.ascontiguousarray(values.astype("<i4", copy=False)).data, crc)
    return crc
