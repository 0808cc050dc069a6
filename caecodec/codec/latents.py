"""The latents of an image, a few tiles at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from caecodec.format.grid import Region, TileGrid

Make = Callable[[int], Tensor | None]
"""y_hat (1, M, h, w) of a tile by its number, or None for zeros."""


class Mosaic:
    """y_hat of every tile: made when a region first needs it, dropped when the scan has passed it.

    Regions are asked for in the order of `TileGrid.scan`; about two rows (of a wide image,
    columns) of tiles are then held. What comes out of order is made again.
    """

    def __init__(self, grid: TileGrid, channels: int, *, margin: int) -> None:
        """Start with no tile made.

        Args:
            grid: of the image, at the model's stride.
            channels: M.
            margin: positions by which a region reaches beyond what it is for.
        """
        self._grid = grid
        self._channels = channels
        self._margin = margin
        self._tiles: dict[int, Tensor | None] = {}

    def cut(self, region: Region, make: Make) -> Tensor:
        """Return y_hat (1, M, h, w) of a region in latent positions, making what it lacks."""
        self._drop_before(region)
        y_hat = torch.zeros((1, self._channels, region.height, region.width))
        y_hat = y_hat.contiguous(memory_format=torch.channels_last)
        for number in self._grid.overlapping(region):
            if number not in self._tiles:
                self._tiles[number] = make(number)
            latent = self._tiles[number]
            if latent is None:
                continue
            tile = self._grid.tile_at(number)
            common = tile.common(region)
            here, there = common.within(region), common.within(tile)
            y_hat[..., here.rows, here.columns] = latent[..., there.rows, there.columns]
        return y_hat

    def put(self, number: int, y_hat: Tensor) -> None:
        """Replace a tile."""
        self._tiles[number] = y_hat

    def _drop_before(self, region: Region) -> None:
        """Drop what neither this line of the scan nor the next one will reach again."""
        for number in list(self._tiles):
            if self._is_passed(self._grid.tile_at(number), region):
                del self._tiles[number]

    def _is_passed(self, tile: Region, region: Region) -> bool:
        bottom, right = tile.top + tile.height, tile.left + tile.width
        below, beyond = region.top + region.height, region.left + region.width
        if self._grid.is_wide:
            is_near_done = right <= beyond - 2 * self._margin and bottom <= region.top
            return right <= region.left or is_near_done
        is_near_done = bottom <= below - 2 * self._margin and right <= region.left
        return bottom <= region.top or is_near_done
