"""Image <-> bytes for one model: with `compression`, where tensors and bytes meet (layer 4)."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from caecodec.compression import Compression, Encoder, symbols_crc
from caecodec.config import DEFAULT_EFFORT, DEFAULT_QUALITY, Progress
from caecodec.container import TILE_SIZES, Container, Header, unpack, unpack_header
from caecodec.effort import SymbolSearch, flat
from caecodec.entropy_coder import EntropyCoder
from caecodec.errors import ConfigError, DesyncError, FormatError, UnknownModelError
from caecodec.nn.architectures import build_model
from caecodec.pixels import ImageLike, Picture, Pixels, decode_alpha, put_together
from caecodec.tables import IntArray
from caecodec.tiles import Region
from caecodec.weights import model_name
from caecodec.weights.storage import Weights, find_weights

TILE_SIZE = 64
"""Side of a tile in units of 16 pixels: 1024 pixels."""


class Codec:
    """Compresses and decompresses with one model, kept warm between calls.

    file -> unpack -> payload -> decode -> symbols -> dequantize -> y_hat -> synthesize -> image
    """

    def __init__(
        self,
        model: str | Path | Weights = "main",
        *,
        tile_size: int = TILE_SIZE,
        head_dtype: torch.dtype = torch.float64,
    ) -> None:
        """Load a shipped model by name, or a weights file.

        Args:
            model: name, path to a .safetensors file, or loaded weights.
            tile_size: side of the tiles that `compress` writes, in units of 16 pixels.
            head_dtype: float64 or int64, in which the scale head computes; the results are equal.

        Raises:
            ModelError: no such model, or a weights file that is not valid.
            ConfigError: a tile size that the format does not have.
        """
        weights = model if isinstance(model, Weights) else find_weights(model)
        self.weights = weights
        self.digest = weights.digest
        self.tables = weights.tables()
        if tile_size not in TILE_SIZES:
            raise ConfigError(f"tile_size is {tile_size}, expected one of {TILE_SIZES}")
        self._coder = EntropyCoder(self.tables)
        self._model = build_model(weights.config, weights.tensors, head_dtype=head_dtype)
        search = SymbolSearch(self._model, self.tables)
        self._encoder = Encoder(self._model, self._coder, search, self.digest, tile_size)

    def compress(
        self,
        image: ImageLike,
        *,
        quality: float = DEFAULT_QUALITY,
        effort: int = DEFAULT_EFFORT,
        on_progress: Progress | None = None,
    ) -> bytes:
        """Return the bytes of a `.cae` file.

        Args:
            image: PIL image of mode 1, L, LA, P, RGB or RGBA, or uint8 array (H, W), (H, W, 3),
                (H, W, 4). Alpha and metadata are kept without loss.
            quality: 0..100, kept to 0.01; size and PSNR rise with it.
            effort: 1..9; more time for fewer bits at equal PSNR. Decoding takes the same.
            on_progress: called with the part that is done, 0 to 1.

        Raises:
            ImageError: the image is of a kind that is refused.
            ConfigError: quality or effort out of range.
        """
        return self.start(image).compress(quality, effort=effort, on_progress=on_progress)

    def start(self, image: ImageLike, *, keep_stems: bool = False) -> Compression:
        """Return an image on its way to files of one or, with `keep_stems`, several qualities."""
        return Compression(self._encoder, image, keep_stems=keep_stems)

    @torch.inference_mode()
    def decompress(self, data: bytes) -> Image.Image:
        """Return the image of a `.cae` file, its metadata in `info`.

        Raises:
            FormatError: the bytes are not a valid file; the message says where.
            UnknownModelError: the file was made with another model.
        """
        container = self._unpack(data)
        header = container.header
        alpha = None
        if container.alpha is not None:
            alpha = decode_alpha(container.alpha, header.width, header.height)
        channels = self.weights.config.latent_channels
        grid = header.grid.at(self._model.stride)
        y_hat = torch.zeros((1, channels, *_sides(grid.bounds)))
        y_hat = y_hat.contiguous(memory_format=torch.channels_last)
        for number, region in enumerate(grid):
            z, symbols, _ = self._decode_tile(container, number, region)
            y_hat[..., region.rows, region.columns] = self._model.dequantize(
                symbols, z, header.quality_units
            )
        color = self._synthesize(y_hat, header)
        return put_together(Picture(header.mode, color, alpha, container.metadata))

    @torch.inference_mode()
    def file_symbols(self, data: bytes) -> list[tuple[IntArray, IntArray]]:
        """Return (symbols, table indexes), z before y, of every tile of a file; no pixels are made.

        Raises:
            FormatError, UnknownModelError: as `decompress`.
        """
        container = self._unpack(data)
        sections = []
        for number, region in enumerate(container.header.grid.at(self._model.stride)):
            z, symbols, indexes = self._decode_tile(container, number, region)
            z_indexes = self._model.hyper_indexes(z.shape, container.header.quality_units)
            sections += [(flat(z), flat(z_indexes)), (flat(symbols), flat(indexes))]
        return sections

    def _unpack(self, data: bytes) -> Container:
        container = unpack(data)
        digest = container.header.digest
        if digest != self.digest:
            raise UnknownModelError(
                f"the file was made with model {digest.hex()}, this is {self.digest.hex()}: "
                "give its weights file"
            )
        if self._model.is_gray and not container.header.mode.is_gray:
            raise FormatError(
                f"colour mode {container.header.mode.name}, expected L or LA: "
                "the model of this file is for grayscale images"
            )
        return container

    def _decode_tile(
        self, container: Container, number: int, region: Region
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return z symbols, y symbols and scale indexes of one tile, checked against its CRC."""
        units, tile = container.header.quality_units, container.tiles[number]
        try:
            decoder = self._coder.decoder(tile.payload)
            shape = self._model.hyper_shape(_sides(region))
            z_symbols = decoder.decode(flat(self._model.hyper_indexes(shape, units)))
            z = torch.from_numpy(z_symbols).long().reshape(shape)
            indexes = self._model.scale_indexes(z, units, _sides(region))
            y_symbols = decoder.decode(flat(indexes))
            decoder.finish()
        except FormatError as error:
            raise type(error)(f"tile {number}: {error}") from error
        if symbols_crc(z_symbols, y_symbols) != tile.symbols_crc:
            raise DesyncError(
                f"tile {number}: the payload is whole, but its symbols are not those encoded"
            )
        return z, torch.from_numpy(y_symbols).reshape(indexes.shape), indexes

    def _synthesize(self, y_hat: Tensor, header: Header) -> Pixels:
        """Return the colour planes, tile by tile, each from a halo of neighbouring latents."""
        is_gray = header.mode.is_gray
        shape = (header.height, header.width) if is_gray else (header.height, header.width, 3)
        color = np.empty(shape, dtype=np.uint8)
        model, grid = self._model, header.grid.at(self._model.stride)
        for tile in grid:
            grown = tile.grown(model.synthesis_halo, grid.bounds)
            latent = y_hat[..., grown.rows, grown.columns]
            x_hat = model.synthesize(latent, header.quality_units)
            inner, outer = tile.within(grown).scaled(model.stride), tile.scaled(model.stride)
            x_hat = x_hat[..., inner.rows, inner.columns]
            target = color[outer.rows, outer.columns]
            target[:] = to_uint8(x_hat, is_gray=is_gray)[: target.shape[0], : target.shape[1]]
        return color


def to_uint8(x_hat: Tensor, *, is_gray: bool) -> Pixels:
    """Clamp, round half to even, cast: (1, 3, H, W) to uint8 (H, W, 3), or (H, W) as the mean."""
    planes = x_hat[0].mean(0) if is_gray else x_hat[0].permute(1, 2, 0)
    levels: Pixels = (planes * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    return levels


@functools.cache
def shared_codec(model: str | Path = "main") -> Codec:
    """Return the codec of a model, loaded once per process."""
    return Codec(model)


def codec_for(data: bytes) -> Codec:
    """Return the codec of the shipped model that a file names.

    Raises:
        FormatError: the header is not valid.
        UnknownModelError: no shipped model made this file.
    """
    digest = unpack_header(data).digest
    name = model_name(digest)
    if name is None:
        raise UnknownModelError(
            f"the file was made with model {digest.hex()}, which is not shipped: "
            "give its weights file"
        )
    return shared_codec(name)


def _sides(region: Region) -> tuple[int, int]:
    return region.height, region.width
