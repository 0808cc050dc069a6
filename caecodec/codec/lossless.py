"""Which blocks of an image are stored losslessly: those where bits + lambda distortion are fewer.

On screens and drawings, most pixels repeat a neighbour: as they are they take less room than any
latent that comes close to them. What is left to the latents is seen with those blocks filled in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from caecodec.codec.search import bits_per_squared_error
from caecodec.format.boxes import FRAME_BYTES
from caecodec.format.container import Tile
from caecodec.format.grid import Region, TileGrid
from caecodec.format.lossless import LosslessBlocks
from caecodec.image.lossless import Mask, blocks_of, pixel_mask
from caecodec.image.metrics import MAX_LEVEL
from caecodec.image.picture import Picture, Pixels

Levels = NDArray[np.floating]

BLOCK_LOG2 = 5
"""Side of the blocks of a mixed tile: 32 pixels."""
_BITS_PER_NOVEL = 8
"""Bits of a pixel that repeats no neighbour, before a tile is coded: screenshots have 6 to 17."""
_CANDIDATES = 0.05
"""Share of blocks that must look cheap for a tile to be tried."""
_DISTORTION_WEIGHT = 0.8
"""What the squared error of a block counts: below 1, as a latent gets cheaper where its neighbours
are lossless. Chosen by SSIMULACRA2 and PSNR of screenshots."""
_SEEN = 2
"""Pixels around a latent block that are left as they are: it ends at them without a seam."""
_DENSE = 2.0
"""Bits per pixel of a latent from which any tile is tried: some photographs take fewer as they
are."""


@dataclasses.dataclass(frozen=True)
class FilledPicture(Picture):
    """An image whose lossless blocks are filled in smoothly from around them.

    Attributes:
        grid: its tiles, in pixels.
        masks: number of a tile -> the pixels that are filled in.
    """

    grid: TileGrid
    masks: Mapping[int, Mask]

    def part(self, window: Region) -> Pixels:
        """Return the colour of a window, as `Picture.part`."""
        window = window.common(self.whole)
        color = super().part(window)
        hidden = np.zeros(color.shape[:2], dtype=bool)
        for number in self.grid.overlapping(window):
            if number in self.masks:
                tile = self.grid.tile_at(number)
                common = tile.common(window)
                here, there = common.within(window), common.within(tile)
                hidden[here.rows, here.columns] = self.masks[number][there.rows, there.columns]
        return filled(color, hidden) if hidden.any() else color


class Candidate(NamedTuple):
    """A tile that may have lossless blocks.

    Attributes:
        mask: bool (rows, columns), the blocks that had better be lossless.
        distortion: lambda distortion of each block without any, in bits.
    """

    mask: Mask
    distortion: NDArray[np.float64]

    def cost(self, tile: Tile) -> float:
        """Return bits + lambda distortion of one way to store it: none, these, or all blocks.

        A latent under a tile that is lossless as a whole does not count: it is left out, or small.
        """
        if tile.lossless is None:
            return 8 * len(tile.payload) + float(self.distortion.sum())
        bits = 8.0 * (FRAME_BYTES + len(tile.lossless.pack()))
        if tile.is_lossless:
            return bits
        return bits + 8 * len(tile.payload) + float(self.distortion[~self.mask].sum())


class BlockChoice:
    """The choice for one image, at any number of qualities."""

    def __init__(self, picture: Picture, grid: TileGrid) -> None:
        """Look at nothing yet.

        Args:
            picture: the image.
            grid: its tiles, in pixels.
        """
        self.picture, self.grid = picture, grid
        self._novel: dict[int, NDArray[np.float64]] = {}
        self._whole: dict[int, LosslessBlocks] = {}

    def candidates(
        self, tiles: Mapping[int, Tile], units: int, decode: Callable[[Region], Pixels]
    ) -> dict[int, Candidate]:
        """Return the tiles in which it seems to pay to store blocks losslessly.

        Args:
            tiles: of the file without lossless blocks.
            units: its quality, in hundredths.
            decode: returns the pixels of a region of that file.
        """
        channels = 1 if self.picture.mode.is_gray else 3
        weight = _DISTORTION_WEIGHT * bits_per_squared_error(units, channels)
        found = {}
        for number, tile in tiles.items():
            if self._is_worth_a_look(number, tile):
                region = self.grid.tile_at(number)
                error = self.picture.part(region).astype(np.float32) - decode(region)
                squares = (error / MAX_LEVEL).reshape(region.height, region.width, -1) ** 2
                distortion = weight * _by_block(squares.sum(2))
                mask = self._mask(number, tile, distortion)
                if mask.any():
                    found[number] = Candidate(mask, distortion)
        return found

    def whole(self, number: int) -> LosslessBlocks:
        """Return all of a tile as one lossless block."""
        if number not in self._whole:
            color = self.picture.part(self.grid.tile_at(number))
            one = np.ones((1, 1), dtype=bool)
            self._whole[number] = blocks_of(color, one, self.grid.side.bit_length() - 1)
        return self._whole[number]

    def blocks(self, number: int, mask: Mask) -> LosslessBlocks:
        """Return the lossless blocks of a tile."""
        if mask.all():
            return self.whole(number)
        return blocks_of(self.picture.part(self.grid.tile_at(number)), mask, BLOCK_LOG2)

    def filled_picture(self, masks: Mapping[int, Mask]) -> FilledPicture:
        """Return the image with lossless blocks filled in."""
        hidden = {}
        for number, mask in masks.items():
            region = self.grid.tile_at(number)
            hidden[number] = _inner(pixel_mask(mask, BLOCK_LOG2, region.height, region.width))
        picture = self.picture
        return FilledPicture(picture.mode, picture.source, picture.metadata, self.grid, hidden)

    def _is_worth_a_look(self, number: int, tile: Tile) -> bool:
        novel = self._novel_pixels(number)
        bits = 8 * len(tile.payload)
        is_cheap = _BITS_PER_NOVEL * novel < 2 * bits / novel.size
        return is_cheap.mean() >= _CANDIDATES or bits > _DENSE * self.grid.tile_at(number).area

    def _mask(self, number: int, tile: Tile, distortion: NDArray[np.float64]) -> Mask:
        """Return the blocks whose pixels are estimated to take fewer bits than their latent."""
        novel = self._novel_pixels(number)
        bits = 8 * len(tile.payload)
        bits_as_they_are = 8 * len(self.whole(number).image)
        share = novel / max(1, novel.sum())
        bits_of_latent = bits * (share + 1 / novel.size) / 2
        return bits_as_they_are * share < bits_of_latent + distortion

    def _novel_pixels(self, number: int) -> NDArray[np.float64]:
        """Return how many pixels of each block equal neither the one to the left nor that above."""
        if number not in self._novel:
            region = self.grid.tile_at(number)
            color = self.picture.part(region)
            if color.ndim == 3:
                red, green, blue = (color[..., channel].astype(np.uint16) for channel in range(3))
                color = red * 23 + green * 599 + blue * 15013  # modulo 2**16: a hash, for speed
            is_novel = np.ones(color.shape, dtype=bool)
            is_novel[:, 1:] &= color[:, 1:] != color[:, :-1]
            is_novel[1:] &= color[1:] != color[:-1]
            self._novel[number] = _by_block(is_novel)
        return self._novel[number]


def _inner(lossless: Mask) -> Mask:
    """Return the pixels that have none but lossless ones around them, in their tile."""
    for axis in range(2):
        widths = [(_SEEN, _SEEN) if axis == own else (0, 0) for own in range(2)]
        padded = np.pad(lossless, widths, constant_values=True)
        lossless = np.asarray(sliding_window_view(padded, 2 * _SEEN + 1, axis).all(-1))
    return lossless


def surrounded(numbers: Iterable[int], grid: TileGrid, margin: int) -> set[int]:
    """Return those tiles among which all tiles within a margin of them are, too."""
    chosen = set(numbers)
    return {number for number in chosen if neighbours(number, grid, margin) <= chosen}


def neighbours(number: int, grid: TileGrid, margin: int) -> set[int]:
    """Return the tiles that are within a margin of a tile, all in pixels; it is one of them."""
    return set(grid.overlapping(grid.tile_at(number).grown(margin, grid.bounds)))


def filled(color: Pixels, hidden: Mask) -> Pixels:
    """Return pixels (H, W) or (H, W, 3) with the hidden ones interpolated from coarser means."""
    known = ~hidden
    levels = color.reshape(*hidden.shape, -1).astype(np.float32)
    pyramid = [(levels * known[..., None], known.astype(np.float32))]
    while max(pyramid[-1][1].shape) > 1:
        pyramid.append(_halved(*pyramid[-1]))
    guess = np.full(levels.shape[2], MAX_LEVEL / 2, dtype=np.float32)[None, None]
    for total, weight in reversed(pyramid):
        height, width = weight.shape
        finer = guess.repeat(2, 0).repeat(2, 1)[:height, :width]
        guess = total + (1 - weight[..., None]) * finer
    return np.clip(np.rint(guess), 0, MAX_LEVEL).astype(np.uint8).reshape(color.shape)


def _halved(total: Levels, weight: Levels) -> tuple[Levels, Levels]:
    """Return the means of what is known in squares of four, and where anything is known."""
    odd = [(0, length % 2) for length in weight.shape]
    total, weight = np.pad(total, [*odd, (0, 0)]), np.pad(weight, odd)
    total, weight = total[::2] + total[1::2], weight[::2] + weight[1::2]
    total, weight = total[:, ::2] + total[:, 1::2], weight[:, ::2] + weight[:, 1::2]
    return total / np.maximum(weight, 1)[..., None], np.minimum(weight, 1)


def _by_block(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return sums over blocks (rows, columns) of a tile's values (H, W)."""
    rows, columns = (np.arange(0, length, 2**BLOCK_LOG2) for length in values.shape)
    return np.add.reduceat(np.add.reduceat(values, columns, 1, dtype=np.float64), rows, 0)
