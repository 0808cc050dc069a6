"""Laws of the grid of tiles: FORMAT.md section 5."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from caecodec.format.grid import Region, TileGrid

TILE_SIZES = [4, 8, 16, 32, 64, 128]


def grids(max_side: int = 2500) -> st.SearchStrategy[TileGrid]:
    sides = st.integers(1, max_side)
    return st.builds(TileGrid, sides, sides, st.sampled_from(TILE_SIZES))


@st.composite
def nested(draw: st.DrawFn) -> tuple[Region, Region]:
    """Draw a region and another one inside it."""
    top, left = draw(st.integers(0, 50)), draw(st.integers(0, 50))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    down, right = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    inner = Region(
        top + down,
        left + right,
        draw(st.integers(1, height - down)),
        draw(st.integers(1, width - right)),
    )
    return Region(top, left, height, width), inner


def positions(region: Region) -> set[tuple[int, int]]:
    """Return every (row, column) of a region."""
    rows = range(region.top, region.top + region.height)
    columns = range(region.left, region.left + region.width)
    return {(row, column) for row in rows for column in columns}


def painted(region: Region, size: int) -> NDArray[np.bool_]:
    """Return a square of False with the region True."""
    canvas = np.zeros((size, size), dtype=bool)
    canvas[region.rows, region.columns] = True
    return canvas


@settings(deadline=None, max_examples=100)
@given(grids())
def test_tiles_cover_the_latent_exactly_once(grid: TileGrid) -> None:
    covered = np.zeros((grid.bounds.height, grid.bounds.width), dtype=np.int64)
    for tile in grid:
        covered[tile.rows, tile.columns] += 1
    assert (covered == 1).all()


@settings(deadline=None, max_examples=100)
@given(grids(65_535))
def test_latent_covers_the_image_and_no_more_than_16_pixels_beyond(grid: TileGrid) -> None:
    assert 0 <= 16 * grid.bounds.height - grid.height < 16
    assert 0 <= 16 * grid.bounds.width - grid.width < 16


@settings(deadline=None, max_examples=100)
@given(grids())
def test_tiles_come_in_raster_order_and_are_as_many_as_the_length_says(grid: TileGrid) -> None:
    tiles = list(grid)
    assert len(tiles) == len(grid) == grid.rows * grid.columns
    assert tiles == sorted(tiles, key=lambda tile: (tile.top, tile.left))
    assert tiles[-1] == grid.tile(grid.rows - 1, grid.columns - 1)


@settings(deadline=None, max_examples=100)
@given(grids())
def test_only_the_last_row_and_column_of_tiles_are_cut(grid: TileGrid) -> None:
    for row in range(grid.rows):
        for column in range(grid.columns):
            tile = grid.tile(row, column)
            assert (tile.top, tile.left) == (row * grid.tile_size, column * grid.tile_size)
            assert tile.height == grid.tile_size or row == grid.rows - 1
            assert tile.width == grid.tile_size or column == grid.columns - 1
            assert 1 <= tile.height <= grid.tile_size
            assert 1 <= tile.width <= grid.tile_size


@settings(deadline=None, max_examples=100)
@given(grids(700), nested())
def test_parts_cover_a_window_once_and_none_is_narrow(
    grid: TileGrid, regions: tuple[Region, Region]
) -> None:
    window = regions[1].scaled(11)
    covered = np.zeros((1000, 1000), dtype=np.int64)
    side = 16 * grid.tile_size
    for part in grid.parts(window):
        covered[part.rows, part.columns] += 1
        for own, whole in ((part.height, window.height), (part.width, window.width)):
            assert min(whole, side / 2) <= own + 16
            assert own <= 1.5 * side + 16
    assert (covered == painted(window, 1000)).all()


@pytest.mark.parametrize(
    ("width", "height", "tiles"), [(1, 1, 1), (1024, 1024, 1), (1025, 1024, 2), (1025, 1025, 4)]
)
def test_tiles_of_64_latents_are_1024_pixels_a_side(width: int, height: int, tiles: int) -> None:
    assert len(TileGrid(width, height, 64)) == tiles


@settings(deadline=None, max_examples=50)
@given(grids(600), st.sampled_from([1, 2, 3, 8, 16, 27]), st.data())
def test_overlapping_tiles_are_those_that_share_positions(
    grid: TileGrid, stride: int, data: st.DataObject
) -> None:
    grid = grid.at(stride)
    bounds = grid.bounds
    top = data.draw(st.integers(0, bounds.height - 1))
    left = data.draw(st.integers(0, bounds.width - 1))
    height = data.draw(st.integers(1, bounds.height - top))
    region = Region(top, left, height, data.draw(st.integers(1, bounds.width - left)))
    shared = [tile.common(region) for tile in grid]
    found = set(grid.overlapping(region))
    assert {n for n, common in enumerate(shared) if common.height and common.width} <= found
    assert sum(shared[number].height * shared[number].width for number in found) == (
        region.height * region.width
    )
    assert [grid.tile_at(number) for number in range(len(grid))] == list(grid)


@settings(deadline=None, max_examples=100)
@given(nested(), st.integers(1, 9))
def test_a_cover_on_a_coarser_grid_holds_the_region_and_no_cell_more(
    regions: tuple[Region, Region], factor: int
) -> None:
    region, inner = regions
    cover = region.covered_by(factor)
    cells = {(row // factor, column // factor) for row, column in positions(region)}
    assert positions(cover) == cells
    assert region.common(inner) == inner.common(region) == inner
    assert positions(cover.scaled(factor)) >= positions(region)


@settings(deadline=None, max_examples=100)
@given(nested(), st.integers(0, 60))
def test_grown_region_holds_what_is_within_the_margin_and_the_bounds(
    regions: tuple[Region, Region], margin: int
) -> None:
    bounds, inner = regions
    grown = inner.grown(margin, bounds)
    rows = range(inner.top - margin, inner.top + inner.height + margin)
    columns = range(inner.left - margin, inner.left + inner.width + margin)
    assert positions(grown) == {
        (row, column) for row, column in positions(bounds) if row in rows and column in columns
    }


@settings(deadline=None, max_examples=100)
@given(nested(), st.integers(0, 20), st.integers(0, 20))
def test_growing_twice_is_growing_by_the_sum(
    regions: tuple[Region, Region], first: int, second: int
) -> None:
    bounds, inner = regions
    twice = inner.grown(first, bounds).grown(second, bounds)
    assert twice == inner.grown(first + second, bounds)
    assert inner.grown(0, bounds) == inner


@settings(deadline=None, max_examples=100)
@given(nested())
def test_region_within_another_cuts_the_same_values_out_of_it(
    regions: tuple[Region, Region],
) -> None:
    outer, inner = regions
    values = np.arange(100 * 100).reshape(100, 100)
    relative = inner.within(outer)
    cut = values[outer.rows, outer.columns][relative.rows, relative.columns]
    assert np.array_equal(cut, values[inner.rows, inner.columns])
    assert inner.within(inner) == Region(0, 0, inner.height, inner.width)


@settings(deadline=None, max_examples=50)
@given(nested(), st.integers(1, 4))
def test_scaled_region_is_the_same_rectangle_on_a_finer_grid(
    regions: tuple[Region, Region], factor: int
) -> None:
    outer, inner = regions
    fine = np.kron(painted(inner, 100), np.ones((factor, factor), dtype=bool))
    assert np.array_equal(painted(inner.scaled(factor), 100 * factor), fine)
    assert inner.within(outer).scaled(factor) == inner.scaled(factor).within(outer.scaled(factor))


@settings(deadline=None, max_examples=200)
@given(grids(), st.integers(1, 64))
def test_tiles_of_any_stride_cover_the_latent_once_and_are_as_many(
    grid: TileGrid, stride: int
) -> None:
    other = grid.at(stride)
    covered = np.zeros((other.bounds.height, other.bounds.width), dtype=np.int64)
    for tile in other:
        covered[tile.rows, tile.columns] += 1
    assert (covered == 1).all()
    assert len(other) == len(list(other)) == len(grid)


@settings(deadline=None, max_examples=100)
@given(grids(), st.integers(1, 64))
def test_a_latent_position_belongs_to_the_tile_of_its_first_pixel(
    grid: TileGrid, stride: int
) -> None:
    side = 16 * grid.tile_size
    other = grid.at(stride)
    for row in range(other.rows):
        tile = other.tile(row, 0)
        for position in range(tile.top, tile.top + tile.height):
            assert position * stride // side == row
