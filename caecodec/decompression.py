"""A file on its way to pixels: tiles are decoded when a window needs them (layer 4).

file -> unpack -> payload -> decode -> symbols -> dequantize -> y_hat -> synthesize -> pixels
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from caecodec.compression import symbols_crc
from caecodec.container import Container
from caecodec.effort import flat
from caecodec.entropy_coder import EntropyCoder
from caecodec.errors import DesyncError, FormatError
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
    """One file and what has been decoded of it."""

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
        self._units = container.header.quality_units
        self._grid = container.header.grid.at(self._model.stride)
        self._latents: dict[int, tuple[Region, Tensor]] = {}
        self._lost = lost

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
        channels = self._model.config.latent_channels
        y_hat = torch.zeros((1, channels, region.height, region.width))
        y_hat = y_hat.contiguous(memory_format=torch.channels_last)
        for number in self._grid.overlapping(region):
            if number in self._lost:
                continue
            tile, latent = self._tile_latent(number)
            common = tile.common(region)
            here, there = common.within(region), common.within(tile)
            y_hat[..., here.rows, here.columns] = latent[..., there.rows, there.columns]
        return y_hat

    def pixels(self, window: Region) -> Pixels:
        """Return the colour planes of a window of the image, in pixels: (h, w), or (h, w, 3).

        Each part is synthesised from its latents and a halo of those around it, so that tiles
        leave no seam.
        """
        model, is_gray = self._model, self._container.header.mode.is_gray
        shape = (window.height, window.width) if is_gray else (window.height, window.width, 3)
        color = np.empty(shape, dtype=np.uint8)
        wanted = window.covered_by(model.stride)
        for number in self._grid.overlapping(wanted):
            part = self._grid.tile_at(number).common(wanted)
            visible = part.scaled(model.stride).common(window)
            outer = visible.within(window)
            if number in self._lost:
                color[outer.rows, outer.columns] = MID_GRAY
                continue
            grown = part.grown(model.synthesis_halo, self._grid.bounds)
            if part.left == wanted.left:
                self._forget_above(grown.top)
            x_hat = model.synthesize(self.latent(grown), self._units)
            inner = visible.within(grown.scaled(model.stride))
            levels = to_uint8(x_hat[..., inner.rows, inner.columns], is_gray=is_gray)
            color[outer.rows, outer.columns] = levels
        return color

    def _tile_latent(self, number: int) -> tuple[Region, Tensor]:
        if number not in self._latents:
            symbols = self.symbols(number)
            y_hat = self._model.dequantize(symbols.y, symbols.z, self._units)
            self._latents[number] = self._grid.tile_at(number), y_hat
        return self._latents[number]

    def _forget_above(self, row: int) -> None:
        """Drop the latents of tiles that end above a row: memory is bounded by rows of tiles."""
        self._latents = {
            number: (tile, y_hat)
            for number, (tile, y_hat) in self._latents.items()
            if tile.top + tile.height > row
        }


def to_uint8(x_hat: Tensor, *, is_gray: bool) -> Pixels:
    """Clamp, round half to even, cast: (1, 3, H, W) to uint8 (H, W, 3), or (H, W) as the mean."""
    planes = x_hat[0].mean(0) if is_gray else x_hat[0].permute(1, 2, 0)
    levels: Pixels = (planes * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    return levels
