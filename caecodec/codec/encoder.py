"""One image on its way to files: from pixels to symbols to bytes.

file <- pack <- payload <- entropy_encode <- symbols <- quantize <- y <- analyze <- x <- image
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from caecodec.codec.decoder import Decompression
from caecodec.codec.latents import Mosaic
from caecodec.codec.lossless import BlockChoice, neighbours, surrounded
from caecodec.codec.memory import with_trims
from caecodec.codec.search import (
    Effort,
    Surroundings,
    SymbolSearch,
    TileDistortion,
    bits_per_squared_error,
    effort_level,
)
from caecodec.codec.tensors import flat, symbols_crc, to_unit
from caecodec.config import DEFAULT_EFFORT, MAX_QUALITY, Progress
from caecodec.errors import ImageError
from caecodec.format.constants import SIZE_LIMIT, quality_to_units
from caecodec.format.container import Container, Header, Tile, check_size, pack
from caecodec.format.entropy_coder import EntropyCoder
from caecodec.format.grid import Region, TileGrid
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
    """What refinement weighs against bits, by what the model was trained for."""


MAX_STEM_PIXELS = 2**24
"""Largest image whose stems are kept between qualities: they take 12 bytes a pixel."""


@dataclasses.dataclass(frozen=True)
class _TileBits:
    """The distortion of one tile in bits, by its y_hat.

    Attributes:
        distortion: what refinement follows.
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
        image: ImageLike | Picture,
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
        self.size_limit = size_limit
        self.picture = image if isinstance(image, Picture) else take_apart(image)
        whole = self.picture.whole
        check_size(whole.width, whole.height, size_limit)
        check_color(setup.model, self.picture)
        is_kept = keep_stems and whole.width * whole.height <= MAX_STEM_PIXELS
        self._stems: dict[Region, Tensor] | None = {} if is_kept else None
        grid = TileGrid(whole.width, whole.height, setup.tile_size, stride=1)
        self._choice = BlockChoice(self.picture, grid)

    @functools.cached_property
    def _alpha(self) -> bytes | None:
        alpha = self.picture.alpha
        return None if alpha is None else encode_alpha(alpha)

    @torch.no_grad()
    def compress(
        self, quality: float, *, effort: int = DEFAULT_EFFORT, on_progress: Progress | None = None
    ) -> bytes:
        """Return the bytes of a `.cae` file; see `Codec.compress`."""
        encoding = self.at(quality)
        level = effort_level(effort)
        tiles = self.coded(encoding, level, on_progress)
        return self._packed(encoding.header, self._with_lossless_blocks(encoding, level, tiles))

    def compress_losslessly(self, on_progress: Progress | None = None) -> bytes:
        """Return the bytes of a file that holds every pixel as it is; its quality says 100."""
        header = self.at(MAX_QUALITY).header
        tiles = {}
        for number in range(len(header.grid)):
            tiles[number] = Tile(0, b"", self._choice.whole(number))
            if on_progress:
                on_progress((number + 1) / len(header.grid))
        return self._packed(header, tiles)

    def coded(
        self,
        encoding: CompressionAtQuality,
        level: Effort,
        on_progress: Progress | None = None,
        only: AbstractSet[int] | None = None,
    ) -> dict[int, Tile]:
        """Return the tiles without lossless blocks, all or only some."""
        tiles = {}
        for number, sections in encoding.tiles(level, on_progress, only):
            payload = self.setup.coder.entropy_encode(sections)
            tiles[number] = Tile(symbols_crc(*(symbols for symbols, _ in sections)), payload)
        return tiles

    def _packed(self, header: Header, tiles: Mapping[int, Tile]) -> bytes:
        return pack(self._container(header, tiles))

    def _container(self, header: Header, tiles: Mapping[int, Tile]) -> Container:
        in_order = tuple(tiles[number] for number in range(len(tiles)))
        return Container(header, in_order, self._alpha, self.picture.metadata)

    def _with_lossless_blocks(
        self, encoding: CompressionAtQuality, level: Effort, plain: dict[int, Tile]
    ) -> dict[int, Tile]:
        """Return the tiles with lossless blocks where these pay.

        Latents of those tiles, and of tiles that see them, are made again, from the picture with
        the blocks filled in; a tile that only lossless ones see has none.
        """
        choice, units = self._choice, encoding.header.quality_units
        decoded = Decompression(
            self.setup.model, self.setup.coder, self._container(encoding.header, plain)
        )
        candidates = choice.candidates(plain, units, decoded.region)
        if not candidates:
            return plain
        masks = {number: candidate.mask for number, candidate in candidates.items()}
        seen = Compression(self.setup, choice.filled_picture(masks), size_limit=self.size_limit)
        code = partial(seen.coded, seen.at(encoding.header.quality), level)
        model = self.setup.model
        seen_from = model.stride * model.analysis_halo
        shown_in = model.stride * (model.synthesis_halo + 1)
        near = {beside for number in masks for beside in neighbours(number, choice.grid, seen_from)}
        whole = {number for number, mask in masks.items() if mask.all()}
        coded = code(only=near - surrounded(whole, choice.grid, shown_in))
        tiles = plain | coded
        for number, candidate in candidates.items():
            ways = [choice.blocks(number, candidate.mask), choice.whole(number)]
            options = [plain[number], *(replace(tiles[number], lossless=way) for way in ways)]
            tiles[number] = min(options, key=candidate.cost)
        whole = {number for number, tile in tiles.items() if tile.is_lossless}
        bare = surrounded(whole, choice.grid, shown_in)
        for number, tile in code(only=whole - bare - coded.keys()).items():
            tiles[number] = replace(tile, lossless=tiles[number].lossless)
        for number in bare:
            tiles[number] = Tile(0, b"", tiles[number].lossless)
        return tiles

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
        self,
        level: Effort,
        on_progress: Progress | None = None,
        only: AbstractSet[int] | None = None,
    ) -> Iterator[tuple[int, Sections]]:
        """Yield number and sections of all tiles, or of some, in the order of `TileGrid.scan`."""
        numbers = [number for number in self._grid.scan() if only is None or number in only]
        quantized = self._refined(numbers, level, on_progress)
        if not level.steps:
            quantized = ((number, *self._quantized(number, level)) for number in numbers)
        for count, (number, latent, (symbols, _)) in enumerate(with_trims(quantized), 1):
            z_indexes = self._model.hyper_indexes(latent.z.shape)
            sections = (flat(latent.z), flat(z_indexes)), (flat(symbols), flat(latent.indexes))
            yield number, list(sections)
            if on_progress:
                on_progress(count / len(numbers))

    def _quantized(self, number: int, level: Effort) -> tuple[Latent, Quantized]:
        """Quantise one tile without refinement."""
        latent = self.latent(self._grid.tile_at(number))
        return latent, self._setup.search.quantize(self._model, latent, level)

    def _refined(
        self, numbers: Sequence[int], level: Effort, on_progress: Progress | None
    ) -> Iterator[tuple[int, Latent, Quantized]]:
        """Refine the symbols of every tile, next to the refined or a draft of the others."""
        model = self._setup.model
        margin = 2 * model.synthesis_halo
        mosaic = Mosaic(self._grid, model.config.latent_channels, margin=margin)
        done, total = itertools.count(1), level.steps * len(numbers)

        def draft(number: int) -> Tensor:
            return self._quantized(number, level)[1].y_hat

        def on_step() -> None:
            if on_progress:
                on_progress(next(done) / total)

        for number in numbers:
            tile = self._grid.tile_at(number)
            latent = self.latent(tile)
            mosaic.put(number, latent.y)  # needs no draft: every y_hat is put there for a look
            around = Surroundings(self._model, partial(mosaic.cut, make=draft), self._grid, tile)
            refined = self._setup.search.refine(
                self._model, latent, level, self._distortion(around), on_step
            )
            mosaic.put(number, refined.y_hat)
            yield number, latent, refined

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
