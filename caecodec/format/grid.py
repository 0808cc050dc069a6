"""The grid of latent tiles. FORMAT.md section 5: contexts stop at tile edges, transforms do not."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from caecodec.config import STRIDE


@dataclasses.dataclass(frozen=True)
class Region:
    """A rectangle, `top` and `left` inclusive, in latent positions or in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def area(self) -> int:
        """Number of positions or pixels."""
        return self.height * self.width

    @property
    def rows(self) -> slice:
        """The rows as a slice."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """The columns as a slice."""
        return slice(self.left, self.left + self.width)

    def scaled(self, factor: int) -> Region:
        """Return the same rectangle on a grid `factor` times as fine."""
        return Region(*(factor * value for value in dataclasses.astuple(self)))

    def within(self, outer: Region) -> Region:
        """Return the same rectangle with coordinates relative to `outer`."""
        return Region(self.top - outer.top, self.left - outer.left, self.height, self.width)

    def slab(self, start: int, length: int, *, of_columns: bool) -> Region:
        """Return so many of the rows, or columns, from one that is counted from its first."""
        if of_columns:
            return Region(self.top, self.left + start, self.height, length)
        return Region(self.top + start, self.left, length, self.width)

    def common(self, other: Region) -> Region:
        """Return what two rectangles share; its height or width is 0 where that is nothing."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.height, other.top + other.height)
        right = min(self.left + self.width, other.left + other.width)
        return Region(top, left, max(0, bottom - top), max(0, right - left))

    def covered_by(self, factor: int) -> Region:
        """Return the smallest rectangle that covers it on a grid `factor` times as coarse."""
        top, left = self.top // factor, self.left // factor
        bottom = -(-(self.top + self.height) // factor)
        right = -(-(self.left + self.width) // factor)
        return Region(top, left, bottom - top, right - left)

    def grown(self, margin: int, bounds: Region) -> Region:
        """Return the rectangle grown by `margin` on each side, cut at `bounds`."""
        top = max(bounds.top, self.top - margin)
        left = max(bounds.left, self.left - margin)
        bottom = min(bounds.top + bounds.height, self.top + self.height + margin)
        right = min(bounds.left + bounds.width, self.left + self.width + margin)
        return Region(top, left, bottom - top, right - left)


@dataclasses.dataclass(frozen=True)
class TileGrid:
    """Tiles of an image, in raster order.

    A tile is a square of pixels, whatever the model: how many there are follows from the header.
    It holds the latent positions whose first pixel lies in it.

    Attributes:
        width, height: of the image, in pixels.
        tile_size: side of a tile, in units of 16 pixels.
        stride: pixels per latent position, each way.
    """

    width: int
    height: int
    tile_size: int
    stride: int = STRIDE

    def at(self, stride: int) -> TileGrid:
        """Return the same tiles for a model of another stride."""
        return dataclasses.replace(self, stride=stride)

    @property
    def bounds(self) -> Region:
        """The whole latent: ceil(height / stride) by ceil(width / stride) positions."""
        return Region(0, 0, -(-self.height // self.stride), -(-self.width // self.stride))

    @property
    def rows(self) -> int:
        """Number of tile rows."""
        return -(-self.height // self.side)

    @property
    def columns(self) -> int:
        """Number of tile columns."""
        return -(-self.width // self.side)

    def __len__(self) -> int:
        return self.rows * self.columns

    def __iter__(self) -> Iterator[Region]:
        return (
            self.tile(row, column) for row in range(self.rows) for column in range(self.columns)
        )

    def tile(self, row: int, column: int) -> Region:
        """Return one tile in latent positions, cut at the image's edge."""
        top, left = self._first(row), self._first(column)
        bottom = min(self._first(row + 1), self.bounds.height)
        right = min(self._first(column + 1), self.bounds.width)
        return Region(top, left, bottom - top, right - left)

    def tile_at(self, number: int) -> Region:
        """Return one tile by its number in raster order."""
        return self.tile(*divmod(number, self.columns))

    def overlapping(self, region: Region) -> Iterator[int]:
        """Yield the numbers of the tiles that share positions with a region, in raster order."""
        for row in self._tiles_along(region.top, region.height):
            for column in self._tiles_along(region.left, region.width):
                yield row * self.columns + column

    @property
    def is_wide(self) -> bool:
        """Whether tiles are best taken column by column: fewer of them are then held at once."""
        return self.columns > self.rows

    def scan(self) -> Iterator[int]:
        """Yield the numbers of all tiles along the shorter side of the image first."""
        if not self.is_wide:
            return iter(range(len(self)))
        pairs = itertools.product(range(self.columns), range(self.rows))
        return (row * self.columns + column for column, row in pairs)

    def lines(self, window: Region) -> Iterator[Region]:
        """Yield what a window in pixels shows of each line of `scan`: rows, or columns, of tiles.

        They are about as thick as a tile and as each other, and need not end where tiles do.
        """
        length = window.width if self.is_wide else window.height
        for start, thickness in _cuts(length, self.side):
            yield window.slab(start, thickness, of_columns=self.is_wide)

    def parts(self, window: Region) -> Iterator[Region]:
        """Yield the parts into which a window in pixels is cut, in the order of `scan`.

        They are about as large as a tile and as each other: a narrow rest would be mostly halo.
        """
        for line in self.lines(window):
            length = line.height if self.is_wide else line.width
            for start, part in _cuts(length, self.side):
                yield line.slab(start, part, of_columns=not self.is_wide)

    @property
    def side(self) -> int:
        """Side of a tile that no edge cuts, in pixels."""
        return STRIDE * self.tile_size

    def _tiles_along(self, start: int, length: int) -> range:
        """Return the rows or columns of tiles that hold these latent positions."""
        last = start + length - 1
        return range(start * self.stride // self.side, last * self.stride // self.side + 1)

    def _first(self, number: int) -> int:
        """Return the first latent position of a row or column of tiles."""
        return -(-number * self.side // self.stride)


def _cuts(length: int, side: int) -> list[tuple[int, int]]:
    """Cut a length into parts of about `side`: their (start, length), all but the last 16 times n.

    So each part of a picture can be reduced on its own.
    """
    count = max(1, round(length / side))
    inner = (STRIDE * round(length * part / count / STRIDE) for part in range(1, count))
    bounds = [0, *inner, length]
    return [(low, high - low) for low, high in itertools.pairwise(bounds)]
