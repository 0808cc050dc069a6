"""A file on its way to pixels: tiles are decoded when a window needs them (layer 4).

file -> unpack -> payload -> decode -> symbols -> dequantize -> y_hat -> synthesize -> pixels
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from caecodec.compression import symbols_crc
from caecodec.container import Container
from caecodec.effort import flat
from caecodec.entropy_coder import EntropyCoder
from caecodec.errors import DesyncError, FormatError
from caecodec.memory import with_trims
from caecodec.mosaic import Mosaic
from caecodec.nn.architectures import FrozenModel
from caecodec.pixels import Pixels
from caecodec.tiles import Region

MID_GRAY = 128
"""Level of the pixels of a lost tile."""


class Decoder(NamedTuple):
    """What a codec lends to its decompressions."""

    model: FrozenModel
    coder: EntropyCoder


class TileSymbols(NamedTuple):
    """The symbols of one tile: z (N, h', w'), y (M, h, w), and the table index of every y."""

    z: Tensor
    y: Tensor
    indexes: Tensor


class Decompression:
    """One file and what has been decoded of it.

    Each part of the image is synthesised from its latents and a halo of those around it, so that
    tiles leave no seam.
    """

    def __init__(
        self, decoder: Decoder, container: Container, lost: frozenset[int] = frozenset()
    ) -> None:
        """Start with nothing decoded.

        Args:
            decoder: of the file's model.
            container: the file.
            lost: numbers of tiles that must not be decoded: they show as mid-gray.
        """
        self._model, self._coder = decoder
        self._container = container
        self.mode = container.header.mode
        self.metadata = container.metadata
        self._units = container.header.quality_units
        self._grid = container.header.grid.at(self._model.stride)
        self._lost = lost
        channels = self._model.config.latent_channels
        halo = self._model.synthesis_halo
        self._mosaic = Mosaic(self._grid, channels, margin=halo)

    def symbols(self, number: int) -> TileSymbols:
        """Decode the symbols of a tile, counted in raster order.

        Raises:
            FormatError: its payload is not valid; DesyncError: its symbols are not those encoded.
        """
        tile, region = self._container.tiles[number], self._grid.tile_at(number)
        sides = region.height, region.width
        model, units = self._model, self._units
        try:
            decoder = self._coder.decoder(tile.payload)
            shape = model.hyper_shape(sides)
            z_symbols = decoder.decode(flat(model.hyper_indexes(shape, units)))
            z = torch.from_numpy(z_symbols).long().reshape(shape)
            indexes = model.scale_indexes(z, units, sides)
            y_symbols = decoder.decode(flat(indexes))
            decoder.finish()
        except FormatError as error:
            raise type(error)(f"tile {number}: {error}") from error
        if symbols_crc(z_symbols, y_symbols) != tile.symbols_crc:
            raise DesyncError(
                f"tile {number}: the payload is whole, but its symbols are not those encoded"
            )
        return TileSymbols(z, torch.from_numpy(y_symbols).reshape(indexes.shape), indexes)

    def check_tiles_without_positions(self) -> None:
        """Check the payloads that no window needs. FORMAT.md section 5.

        Raises:
            FormatError: one of them is not empty.
        """
        for number, tile in enumerate(self._grid):
            if not tile.height or not tile.width:
                self.symbols(number)

    def latent(self, region: Region) -> Tensor:
        """Return y_hat (1, M, h, w) of a region in latent positions, decoding what it needs."""
        return self._mosaic.cut(region, self._tile_latent)

    def parts(self, window: Region) -> Iterator[tuple[Region, Pixels]]:
        """Yield the parts of a window, in pixels, and their colour: (h, w), or (h, w, 3)."""
        for part in with_trims(self._grid.parts(window)):
            yield part, self._pixels(part)

    def _pixels(self, window: Region) -> Pixels:
        model, is_gray = self._model, self.mode.is_gray
        squares = self._grid.at(1)
        shown = set(squares.overlapping(window))
        if shown <= self._lost:
            shape = (window.height, window.width) if is_gray else (window.height, window.width, 3)
            return np.full(shape, MID_GRAY, dtype=np.uint8)
        inner = window.covered_by(model.stride)
        grown = inner.grown(model.synthesis_halo, self._grid.bounds)
        x_hat = model.synthesize(self.latent(grown), self._units, inner.within(grown))
        own = window.within(inner.scaled(model.stride))
        levels = to_uint8(x_hat[..., own.rows, own.columns], is_gray=is_gray)
        for number in shown & self._lost:
            common = squares.tile_at(number).common(window).within(window)
            levels[common.rows, common.columns] = MID_GRAY
        return levels

    def _tile_latent(self, number: int) -> Tensor | None:
        if number in self._lost:
            return None
        symbols = self.symbols(number)
        return self._model.dequantize(symbols.y, symbols.z, self._units)


def to_uint8(x_hat: Tensor, *, is_gray: bool) -> Pixels:
    """Clamp, round half to even, cast: (1, 3, H, W) to uint8 (H, W, 3), or (H, W) as the mean."""
    planes = x_hat[0].mean(0) if is_gray else x_hat[0].permute(1, 2, 0)
    levels: Pixels = (planes * 255).round_().clamp_(0, 255).to(torch.uint8).numpy()
    return levels
