"""One image on its way to files: from pixels to symbols to bytes.

file <- pack <- payload <- entropy_encode <- symbols <- quantize <- y <- analyze <- x <- image
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor

from caecodec.codec.latents import Mosaic
from caecodec.codec.memory import with_trims
from caecodec.codec.search import (
    USUAL,
    Effort,
    Latent,
    Quantized,
    Surroundings,
    SymbolSearch,
    Trial,
    bits_per_squared_error,
    effort_level,
)
from caecodec.codec.tensors import flat, symbols_crc, to_unit
from caecodec.config import DEFAULT_EFFORT, Progress
from caecodec.errors import ImageError
from caecodec.format.constants import SIZE_LIMIT, quality_to_units
from caecodec.format.container import Container, Header, Tile, check_size, pack
from caecodec.format.entropy_coder import EntropyCoder
from caecodec.format.grid import Region
from caecodec.format.tables import IntArray
from caecodec.image.pixels import ImageLike, Picture, encode_alpha, take_apart
from caecodec.nn.architectures import FrozenModel
from caecodec.nn.distortions import Distortion, squared_error
from caecodec.nn.entropy_models import replicate_to_multiple

Sections = list[tuple[IntArray, IntArray]]
"""(symbols, table indexes) of z, then of y."""


class Encoder(NamedTuple):
    """What a codec lends to its compressions."""

    model: FrozenModel
    coder: EntropyCoder
    search: SymbolSearch
    digest: bytes
    tile_size: int
    distortion_of: Distortion = squared_error
    """What the search weighs against bits: what the model was trained for."""


MAX_STEM_PIXELS = 2**24
"""Largest image whose stems are kept between qualities: they take 12 bytes a pixel."""


@dataclasses.dataclass(frozen=True)
class _TileBits:
    """The distortion of one tile in bits, by its y_hat.

    Attributes:
        distortion: what the model was trained for.
        around: the tile in its image.
        x: the pixels that it is compared with (1, 1 or 3, H, W).
        units: hundredths of a quality.
    """

    distortion: Distortion
    around: Surroundings
    x: Tensor
    units: int

    def __call__(self, y_hat: Tensor) -> Tensor:
        """Return lambda 255**2 distortion times pixels of a y_hat (1, M, h, w); has gradients."""
        is_gray = self.x.shape[1] == 1
        weight = bits_per_squared_error(self.units, self.x.shape[1])
        if self.distortion is squared_error:
            return weight * self.around.squared_error(y_hat, self.x, self.units, is_gray=is_gray)
        x_hat = self.around.decoded(y_hat, self.x, self.units, is_gray=is_gray)
        pair = (image.expand(-1, 3, -1, -1) for image in (x_hat, self.x))
        return weight * self.x.numel() * self.distortion(*pair).sum()


class Compression:
    """One image, compressed at one or several qualities.

    Memory beyond the image's own goes with a row of tiles. With `keep_stems`, the part of the
    analysis transform that no quality changes runs once for images up to MAX_STEM_PIXELS.
    """

    def __init__(
        self,
        encoder: Encoder,
        image: ImageLike,
        *,
        size_limit: int = SIZE_LIMIT,
        keep_stems: bool = False,
    ) -> None:
        """Take the image apart.

        Raises:
            ImageError: the image is of a kind that is refused, or in colour and the model is not.
            LimitExceededError: more pixels than `size_limit`.
        """
        self._encoder = encoder
        self.picture = take_apart(image)
        whole = self.picture.whole
        check_size(whole.width, whole.height, size_limit)
        check_color(encoder.model, self.picture)
        alpha = self.picture.alpha
        self._alpha = None if alpha is None else encode_alpha(alpha)
        is_kept = keep_stems and whole.width * whole.height <= MAX_STEM_PIXELS
        self._stems: dict[Region, Tensor] | None = {} if is_kept else None

    @torch.no_grad()
    def compress(
        self, quality: float, *, effort: int = DEFAULT_EFFORT, on_progress: Progress | None = None
    ) -> bytes:
        """Return the bytes of a `.cae` file; see `Codec.compress`."""
        header = self.header(quality)
        tiles: dict[int, Tile] = {}
        for number, sections in self._tiles(header, effort_level(effort), on_progress):
            payload = self._encoder.coder.entropy_encode(sections)
            tiles[number] = Tile(symbols_crc(*(symbols for symbols, _ in sections)), payload)
        in_order = tuple(tiles[number] for number in range(len(tiles)))
        return pack(Container(header, in_order, self._alpha, self.picture.metadata))

    @torch.no_grad()
    def symbols(self, quality: float, *, effort: int = DEFAULT_EFFORT) -> Sections:
        """Return (symbols, table indexes), z before y, of every tile: what `compress` codes."""
        tiles = dict(self._tiles(self.header(quality), effort_level(effort), None))
        return [section for number in sorted(tiles) for section in tiles[number]]

    def header(self, quality: float) -> Header:
        """Return the file's header.

        Raises:
            ConfigError: quality out of range.
        """
        mode, whole, encoder = self.picture.mode, self.picture.whole, self._encoder
        units = quality_to_units(quality)
        return Header(mode, units, whole.width, whole.height, encoder.digest, encoder.tile_size)

    def latent(self, tile: Region, header: Header) -> Latent:
        """Analyse one tile, from its pixels and a halo of real ones around it."""
        model, units = self._encoder.model, header.quality_units
        grown = tile.grown(model.analysis_halo, header.grid.at(model.stride).bounds)
        y = model.analyze(self._stem(grown), units, tile.within(grown))
        y = y.contiguous(memory_format=torch.channels_last)
        z = model.hyper_symbols(y, units)
        return Latent(y, z, model.scale_indexes(z, units, (tile.height, tile.width)))

    def _tiles(
        self, header: Header, level: Effort, on_progress: Progress | None
    ) -> Iterator[tuple[int, Sections]]:
        """Yield the number and the sections of every tile, in the order of `TileGrid.scan`."""
        model, units = self._encoder.model, header.quality_units
        quantized = self._searched(header, level, on_progress)
        if level.num_trials == 1:
            (strength,) = level.strengths
            numbers = header.grid.scan()
            quantized = ((number, *self._quantized(number, header, strength)) for number in numbers)
        for count, (number, latent, (symbols, _)) in enumerate(with_trims(quantized), 1):
            z_indexes = model.hyper_indexes(latent.z.shape, units)
            sections = (flat(latent.z), flat(z_indexes)), (flat(symbols), flat(latent.indexes))
            yield number, list(sections)
            if on_progress:
                on_progress(count / len(header.grid))

    def _quantized(self, number: int, header: Header, strength: float) -> tuple[Latent, Quantized]:
        """Quantise one tile by one of STRENGTHS."""
        tile = header.grid.at(self._encoder.model.stride).tile_at(number)
        latent = self.latent(tile, header)
        return latent, self._encoder.search.quantize(latent, header.quality_units, strength)

    def _searched(
        self, header: Header, level: Effort, on_progress: Progress | None
    ) -> Iterator[tuple[int, Latent, Quantized]]:
        """Search the best symbols of every tile, next to the best or a draft of the others."""
        model, units = self._encoder.model, header.quality_units
        grid = header.grid.at(model.stride)
        mosaic = Mosaic(grid, model.config.latent_channels, margin=2 * model.synthesis_halo)
        cut = partial(
            mosaic.cut, make=lambda number: self._quantized(number, header, USUAL)[1].y_hat
        )
        channels = 1 if header.mode.is_gray else 3
        count = itertools.count(1)

        def show(trials: Iterator[Trial]) -> Iterator[Trial]:
            for trial in trials:
                yield trial
                if on_progress:
                    on_progress(next(count) / (level.num_trials * len(grid)))

        for number in grid.scan():
            tile = grid.tile_at(number)
            latent = self.latent(tile, header)
            mosaic.put(number, latent.y)  # needs no draft: every trial puts its own there
            around = Surroundings(model, cut, grid, tile)
            x = to_unit(self.picture.part(around.pixels))[:, :channels]
            distortion = _TileBits(self._encoder.distortion_of, around, x, units)
            trials = show(self._encoder.search.trials(latent, units, level, distortion))
            _, best = min(trials, key=itemgetter(0))
            mosaic.put(number, best.y_hat)
            yield number, latent, best

    def _stem(self, region: Region) -> Tensor:
        """Return the features of a region, in latent positions, of the padded image."""
        if self._stems is not None and region in self._stems:
            return self._stems[region]
        model = self._encoder.model
        x = to_unit(self.picture.part(region.scaled(model.stride)))
        stem = model.stem(replicate_to_multiple(x, model.stride))
        if self._stems is not None:
            self._stems[region] = stem
        return stem


def check_color(model: FrozenModel, picture: Picture) -> None:
    """Refuse an image in colour for a model of grayscale ones.

    Raises:
        ImageError: it is one.
    """
    if model.is_gray and not picture.mode.is_gray:
        raise ImageError(
            f"the model is for grayscale images, this is {picture.mode.name}: "
            "convert it to L, or use a model of color rgb"
        )
