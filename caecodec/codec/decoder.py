"""A file on its way to pixels: tiles are decoded when a window needs them.

file -> unpack -> payload -> decode -> symbols -> dequantize -> y_hat -> synthesize -> pixels
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from caecodec.codec.latents import Mosaic
from caecodec.codec.memory import with_trims
from caecodec.codec.tensors import flat, symbols_crc, to_uint8
from caecodec.config import Progress
from caecodec.errors import DesyncError, FormatError
from caecodec.format.container import Container
from caecodec.format.entropy_coder import EntropyCoder
from caecodec.format.grid import Region
from caecodec.image.lossless import mask_of, pixels_of
from caecodec.image.picture import Pixels
from caecodec.nn.inference import FrozenModel

MID_GRAY = 128
"""Level of the pixels of a lost tile."""


class TileSymbols(NamedTuple):
    """The symbols of one tile: z (N, h', w'), y (M, h, w), and the table index of every y."""

    z: Tensor
    y: Tensor
    indexes: Tensor


class Decompression:
    """One file and what has been decoded of it.

    Pixels are synthesised from latents across the edges of tiles, so that these leave no seam.
    """

    def __init__(
        self,
        model: FrozenModel,
        coder: EntropyCoder,
        container: Container,
        lost: frozenset[int] = frozenset(),
    ) -> None:
        """Start with nothing decoded.

        Args:
            model: the file's.
            coder: of its CDF tables.
            container: the file.
            lost: numbers of tiles that must not be decoded: they show as mid-gray.
        """
        self._coder = coder
        self._container = container
        self.mode = container.header.mode
        self.metadata = container.metadata
        self._stride = model.stride
        self._hyper_shape = model.hyper_shape
        self._model = model.at(container.header.quality_units)
        self._grid = container.header.grid.at(model.stride)
        self._lost = lost
        self._lossless: dict[int, Pixels] = {}
        channels = model.config.latent_channels
        self._mosaic = Mosaic(self._grid, channels, margin=model.synthesis_halo)

    def symbols(self, number: int) -> TileSymbols:
        """Decode the symbols of a tile, counted in raster order.

        Raises:
            FormatError: its payload is not valid; DesyncError: its symbols are not those encoded.
        """
        tile, region = self._container.tiles[number], self._grid.tile_at(number)
        sides = region.height, region.width
        if not tile.has_symbols:
            return self._no_symbols()
        try:
            decoder = self._coder.decoder(tile.payload)
            shape = self._hyper_shape(sides)
            z_symbols = decoder.decode(flat(self._model.hyper_indexes(shape)))
            z = torch.from_numpy(z_symbols).long().reshape(shape)
            indexes = self._model.scale_indexes(z, sides)
            y_symbols = decoder.decode(flat(indexes))
            decoder.finish()
        except FormatError as error:
            raise type(error)(f"tile {number}: {error}") from error
        if symbols_crc(z_symbols, y_symbols) != tile.symbols_crc:
            raise DesyncError(
                f"tile {number}: the payload is whole, but its symbols are not those encoded"
            )
        return TileSymbols(z, torch.from_numpy(y_symbols).reshape(indexes.shape), indexes)

    def _no_symbols(self) -> TileSymbols:
        config = self._model.model.config
        nothing = torch.zeros((config.latent_channels, 0, 0), dtype=torch.int64)
        return TileSymbols(nothing.new_zeros(self._hyper_shape((0, 0))), nothing, nothing)

    def check_unneeded_symbols(self) -> None:
        """Check the payloads that the pixels of the whole image do not need.

        Raises:
            FormatError: one of them is not valid.
        """
        is_lossless = all(tile.is_lossless for tile in self._container.tiles)
        for number, tile in enumerate(self._grid):
            if is_lossless or not tile.area:
                self.symbols(number)

    def check_tile(self, number: int) -> None:
        """Decode a tile and keep nothing of it.

        Raises:
            FormatError: as `symbols`, or its lossless blocks are not valid.
        """
        self.symbols(number)
        blocks = self._container.tiles[number].lossless
        if blocks:
            pixels_of(blocks, self._container.header, number)

    def latent(self, region: Region) -> Tensor:
        """Return y_hat (1, M, h, w) of a region in latent positions, decoding what it needs."""
        return self._mosaic.cut(region, self._tile_latent)

    def region(self, window: Region) -> Pixels:
        """Return the colour of a window, in pixels: (h, w), or (h, w, 3)."""
        lines = [color for _, color in self.lines(window)]
        return np.concatenate(lines, axis=1 if self._grid.is_wide else 0)

    def lines(
        self, window: Region, on_progress: Progress | None = None
    ) -> Iterator[tuple[Region, Pixels]]:
        """Yield the lines of a window, in pixels, and their colour: (h, w), or (h, w, 3).

        Args:
            window: in pixels.
            on_progress: called with the part that is done, 0 to 1.
        """
        if self._is_lossless(window):
            yield from self._lossless_lines(window, on_progress)
            return
        pieces = self._pieces(window, on_progress)
        kept: list[tuple[Region, Pixels]] = []
        for line in with_trims(self._grid.lines(window)):
            color, missing, needed = self._empty(line), line.area, kept
            kept = []
            for piece, levels in itertools.chain(needed, pieces):
                common = piece.common(line)
                here, there = common.within(line), common.within(piece)
                color[here.rows, here.columns] = levels[there.rows, there.columns]
                if self._goes_on(piece, line):
                    kept.append((piece, levels))
                missing -= common.area
                if not missing:
                    break
            self._put_lossless(color, line)
            self._blank_lost(color, line)
            yield line, color

    def _pieces(
        self, window: Region, on_progress: Progress | None
    ) -> Iterator[tuple[Region, Pixels]]:
        """Yield the pixels of a window as the model makes them, in parts of no certain size."""
        inner, done = window.covered_by(self._stride), 0
        parts = self._model.synthesize_window(self.latent, inner, self._grid)
        for part, x_hat in parts:
            done += part.common(window).area
            if on_progress:
                on_progress(done / window.area)
            yield part, to_uint8(x_hat, is_gray=self.mode.is_gray)

    def _is_lossless(self, window: Region) -> bool:
        """Whether no pixel of a window needs a latent."""
        numbers = set(self._grid.at(1).overlapping(window))
        tiles = (self._container.tiles[number] for number in numbers)
        return not numbers & self._lost and all(tile.is_lossless for tile in tiles)

    def _lossless_lines(
        self, window: Region, on_progress: Progress | None
    ) -> Iterator[tuple[Region, Pixels]]:
        done = 0
        for line in self._grid.lines(window):
            color = self._empty(line)
            self._put_lossless(color, line)
            yield line, color
            done += line.area
            if on_progress:
                on_progress(done / window.area)

    def _put_lossless(self, color: Pixels, line: Region) -> None:
        """Put the lossless blocks of a line in place.

        What is kept of a tile is for the next line: a row, or column, of tiles at most.
        """
        squares = self._grid.at(1)
        for number in squares.overlapping(line):
            blocks = self._container.tiles[number].lossless
            if blocks is None or number in self._lost:
                continue
            tile = squares.tile_at(number)
            levels = self._lossless.pop(number, None)
            if levels is None:
                levels = pixels_of(blocks, self._container.header, number)
            mask = mask_of(blocks, tile)
            common = tile.common(line)
            here, there = common.within(line), common.within(tile)
            part = color[here.rows, here.columns]
            chosen = mask[there.rows, there.columns]
            part[chosen] = levels[there.rows, there.columns][chosen]
            if self._goes_on(tile, line):
                self._lossless[number] = levels

    def _empty(self, line: Region) -> Pixels:
        channels = () if self.mode.is_gray else (3,)
        return np.empty((line.height, line.width, *channels), dtype=np.uint8)

    def _goes_on(self, part: Region, line: Region) -> bool:
        """Whether a part of the image goes on after a line."""
        if self._grid.is_wide:
            return part.left + part.width > line.left + line.width
        return part.top + part.height > line.top + line.height

    def _blank_lost(self, color: Pixels, line: Region) -> None:
        squares = self._grid.at(1)
        for number in self._lost.intersection(squares.overlapping(line)):
            lost = squares.tile_at(number).common(line).within(line)
            color[lost.rows, lost.columns] = MID_GRAY

    def _tile_latent(self, number: int) -> Tensor | None:
        if number in self._lost:
            return None
        if not self._container.tiles[number].has_symbols:
            return None
        symbols = self.symbols(number)
        return self._model.dequantize(symbols.y, symbols.z)
