"""Training images: decoded once to uint8, cropped at random on the device that trains."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from caecodec.config import MAX_QUALITY
from caecodec.errors import ImageError, first_line
from caecodec.image.image_files import image_suffixes, open_raster


def load_images(folder: Path, *, color: str = "rgb") -> list[Tensor]:
    """Decode every image of a folder, its subfolders and its tar shards.

    Args:
        folder: where to look.
        color: rgb or gray, what the images are converted to.

    Returns:
        uint8 tensors (3, H, W), or (1, H, W) for gray, in order of their paths.

    Raises:
        ImageError: no such folder, no image in it, or an image that cannot be decoded.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder, expected a folder of images or tar shards")
    mode = "L" if color == "gray" else "RGB"
    images = [_decode(name, data, mode) for name, data in _files(folder)]
    if not images:
        raise ImageError(f"no image or tar in {folder}, by the suffixes of its files")
    return images


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    suffixes = image_suffixes()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes:
            yield str(path), path.read_bytes()
        elif path.suffix.lower() == ".tar":
            with tarfile.open(path) as shard:
                for member in shard:
                    handle = shard.extractfile(member)
                    if handle and Path(member.name).suffix.lower() in suffixes:
                        yield f"{path}:{member.name}", handle.read()


def _decode(name: str, data: bytes, mode: str) -> Tensor:
    try:
        with open_raster(io.BytesIO(data)) as image:
            pixels = np.array(image.convert(mode))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise ImageError(f"cannot decode {name}: {first_line(error)}") from error
    return torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1).contiguous()


class Crops:
    """An endless supply of random square crops.

    They are flipped and transposed at random if `flips`; every second one is of a larger part of
    its image, up to `shrink` times each way, made smaller: sharper, as pictures are that were.
    """

    def __init__(  # noqa: PLR0913 - by name
        self,
        images: list[Tensor],
        size: int,
        *,
        device: torch.device,
        seed: int | list[int],
        flips: bool = True,
        shrink: float = 1.0,
    ) -> None:
        self._images = [at_least(image, size).to(device) for image in images]
        self._size = size
        self._device = device
        self._flips = flips
        self._shrink = shrink
        self._random = np.random.default_rng(seed)
        areas = np.array([image[0].numel() for image in self._images], dtype=np.float64)
        self._weights = areas / areas.sum()

    def batch(self, count: int) -> Tensor:
        """Return float32 (count, C, size, size) in [0, 1], channels_last."""
        chosen = self._random.choice(len(self._images), count, p=self._weights)
        crops = torch.stack([self._crop(self._images[index]) for index in chosen])
        return crops.float().div_(255).contiguous(memory_format=torch.channels_last)

    def qualities(self, count: int) -> Tensor:
        """Return float32 (count,), one from each of as many equal parts of [0, 100], shuffled.

        Each is uniform by itself, and a batch's gradient varies less than with independent ones.
        """
        parts = self._random.permutation(count) + self._random.uniform(size=count)
        return torch.from_numpy(parts * (MAX_QUALITY / count)).float().to(self._device)

    def _crop(self, image: Tensor) -> Tensor:
        size = self._source_size(image)
        top = self._random.integers(image.shape[1] - size + 1)
        left = self._random.integers(image.shape[2] - size + 1)
        crop = image[:, top : top + size, left : left + size]
        if size > self._size:
            crop = _shrunk(crop, self._size)
        if not self._flips:
            return crop
        flip_rows, flip_columns, transpose = self._random.integers(2, size=3)
        axes = [axis for axis, flip in ((1, flip_rows), (2, flip_columns)) if flip]
        crop = crop.flip(axes) if axes else crop
        return crop.transpose(1, 2) if transpose else crop

    def _source_size(self, image: Tensor) -> int:
        """Return the side of the part of an image that becomes a crop."""
        largest = min(round(self._shrink * self._size), *image.shape[1:])
        if largest <= self._size or self._random.integers(2):
            return self._size
        return int(self._random.integers(self._size, largest + 1))


def _shrunk(image: Tensor, size: int) -> Tensor:
    """Resample an image (C, h, w) to (C, size, size), uint8 as it was."""
    small = functional.interpolate(
        image[None].float(), (size, size), mode="bicubic", antialias=True, align_corners=False
    )
    return small[0].round().clamp(0, 255).to(torch.uint8)


def at_least(image: Tensor, size: int) -> Tensor:
    """Repeat the last row and column of an image (C, H, W) until no side is below `size`."""
    pad = (0, max(0, size - image.shape[2]), 0, max(0, size - image.shape[1]))
    if not any(pad):
        return image
    return functional.pad(image[None].float(), pad, mode="replicate")[0].to(torch.uint8)
