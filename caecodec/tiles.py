"""The grid of latent tiles. FORMAT.md section 5: contexts stop at tile edges, transforms do not."""

from __future__ import annotations

import dataclasses
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
        return -(-self.height // self._side)

    @property
    def columns(self) -> int:
        """Number of tile columns."""
        return -(-self.width // self._side)

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

    @property
    def _side(self) -> int:
        """Side of a tile in pixels."""
        return STRIDE * self.tile_size

    def _first(self, number: int) -> int:
        """Return the first latent position of a row or column of tiles."""
        return -(-number * self._side // self.stride)
