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
    Effort,
    Surroundings,
    SymbolSearch,
    TileDistortion,
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
from caecodec.image.alpha import encode_alpha
from caecodec.image.picture import ImageLike, Picture, take_apart
from caecodec.nn.distortions import Distortion, squared_error
from caecodec.nn.entropy_models import replicate_to_multiple
from caecodec.nn.inference import FrozenModel, Latent, Quantized

Sections = list[tuple[IntArray, IntArray]]
"""(symbols, table indexes) of z, then of y."""


class EncoderSetup(NamedTuple):
    """What all compressions of one codec share."""

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
        weight: bits that a squared error of 1 in one channel counts as.
    """

    distortion: Distortion
    around: Surroundings
    x: Tensor
    weight: float

    def __call__(self, y_hat: Tensor) -> Tensor:
        """Return lambda 255**2 distortion times pixels of a y_hat (1, M, h, w); has gradients."""
        is_gray = self.x.shape[1] == 1
        if self.distortion is squared_error:
            return self.weight * self.around.squared_error(y_hat, self.x, is_gray=is_gray)
        x_hat = self.around.decoded(y_hat, self.x, is_gray=is_gray)
        pair = (image.expand(-1, 3, -1, -1) for image in (x_hat, self.x))
        return self.weight * self.x.numel() * self.distortion(*pair).sum()


class Compression:
    """One image, compressed at one or several qualities.

    Memory beyond the image's own goes with a row of tiles. With `keep_stems`, the part of the
    analysis transform that no quality changes runs once for images up to MAX_STEM_PIXELS.
    """

    def __init__(
        self,
        setup: EncoderSetup,
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
        self.setup = setup
        self.picture = take_apart(image)
        whole = self.picture.whole
        check_size(whole.width, whole.height, size_limit)
        check_color(setup.model, self.picture)
        alpha = self.picture.alpha
        self._alpha = None if alpha is None else encode_alpha(alpha)
        is_kept = keep_stems and whole.width * whole.height <= MAX_STEM_PIXELS
        self._stems: dict[Region, Tensor] | None = {} if is_kept else None

    @torch.no_grad()
    def compress(
        self, quality: float, *, effort: int = DEFAULT_EFFORT, on_progress: Progress | None = None
    ) -> bytes:
        """Return the bytes of a `.cae` file; see `Codec.compress`."""
        encoding = self.at(quality)
        tiles: dict[int, Tile] = {}
        for number, sections in encoding.tiles(effort_level(effort), on_progress):
            payload = self.setup.coder.entropy_encode(sections)
            tiles[number] = Tile(symbols_crc(*(symbols for symbols, _ in sections)), payload)
        in_order = tuple(tiles[number] for number in range(len(tiles)))
        return pack(Container(encoding.header, in_order, self._alpha, self.picture.metadata))

    @torch.no_grad()
    def symbols(self, quality: float, *, effort: int = DEFAULT_EFFORT) -> Sections:
        """Return (symbols, table indexes), z before y, of every tile: what `compress` codes."""
        tiles = dict(self.at(quality).tiles(effort_level(effort)))
        return [section for number in sorted(tiles) for section in tiles[number]]

    def at(self, quality: float) -> CompressionAtQuality:
        """Return the image at one quality.

        Raises:
            ConfigError: quality out of range.
        """
        return CompressionAtQuality(self, quality)

    def stem(self, region: Region) -> Tensor:
        """Return the features of a region, in latent positions, of the padded image."""
        if self._stems is not None and region in self._stems:
            return self._stems[region]
        model = self.setup.model
        x = to_unit(self.picture.part(region.scaled(model.stride)))
        stem = model.stem(replicate_to_multiple(x, model.stride))
        if self._stems is not None:
            self._stems[region] = stem
        return stem


class CompressionAtQuality:
    """One image at one quality: its tiles, from pixels to symbols.

    Attributes:
        header: of the file.
    """

    def __init__(self, compression: Compression, quality: float) -> None:
        self._compression = compression
        self._setup = setup = compression.setup
        mode, whole = compression.picture.mode, compression.picture.whole
        units = quality_to_units(quality)
        self.header = Header(mode, units, whole.width, whole.height, setup.digest, setup.tile_size)
        self._model = setup.model.at(units)
        self._grid = self.header.grid.at(setup.model.stride)

    def latent(self, tile: Region) -> Latent:
        """Analyse one tile, from its pixels and a halo of real ones around it."""
        grown = tile.grown(self._setup.model.analysis_halo, self._grid.bounds)
        return self._model.latent(self._compression.stem(grown), tile.within(grown))

    def tiles(
        self, level: Effort, on_progress: Progress | None = None
    ) -> Iterator[tuple[int, Sections]]:
        """Yield the number and the sections of every tile, in the order of `TileGrid.scan`."""
        quantized = self._searched(level, on_progress)
        if level.num_trials == 1:
            quantized = ((number, *self._quantized(number, level)) for number in self._grid.scan())
        for count, (number, latent, (symbols, _)) in enumerate(with_trims(quantized), 1):
            z_indexes = self._model.hyper_indexes(latent.z.shape)
            sections = (flat(latent.z), flat(z_indexes)), (flat(symbols), flat(latent.indexes))
            yield number, list(sections)
            if on_progress:
                on_progress(count / len(self._grid))

    def _quantized(self, number: int, level: Effort) -> tuple[Latent, Quantized]:
        """Quantise one tile without refinement."""
        latent = self.latent(self._grid.tile_at(number))
        return latent, self._setup.search.quantize(self._model, latent, level)

    def _searched(
        self, level: Effort, on_progress: Progress | None
    ) -> Iterator[tuple[int, Latent, Quantized]]:
        """Search the best symbols of every tile, next to the best or a draft of the others."""
        model = self._setup.model
        margin = 2 * model.synthesis_halo
        mosaic = Mosaic(self._grid, model.config.latent_channels, margin=margin)
        done, total = itertools.count(1), level.num_trials * len(self._grid)

        def draft(number: int) -> Tensor:
            return self._quantized(number, level)[1].y_hat

        def shown(trials: Iterator[Trial]) -> Iterator[Trial]:
            for trial in trials:
                yield trial
                if on_progress:
                    on_progress(next(done) / total)

        for number in self._grid.scan():
            tile = self._grid.tile_at(number)
            latent = self.latent(tile)
            mosaic.put(number, latent.y)  # needs no draft: every trial puts its own there
            around = Surroundings(self._model, partial(mosaic.cut, make=draft), self._grid, tile)
            trials = self._setup.search.trials(self._model, latent, level, self._distortion(around))
            best = min(shown(trials), key=itemgetter(0)).quantized  # holds no more than two
            mosaic.put(number, best.y_hat)
            yield number, latent, best

    def _distortion(self, around: Surroundings) -> TileDistortion:
        """Return the distortion of a tile in bits, by its y_hat."""
        channels = 1 if self.header.mode.is_gray else 3
        x = to_unit(self._compression.picture.part(around.pixels))[:, :channels]
        weight = bits_per_squared_error(self.header.quality_units, channels)
        return _TileBits(self._setup.distortion_of, around, x, weight)


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
