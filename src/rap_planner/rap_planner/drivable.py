"""The drivable area of a map as a grid, so that thousands of points are looked up in no time.

The grid is made of tiles, drawn when a point first falls on them. A cell is drivable if its centre
lies within a polygon; polygons that share an edge leave no gap.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import ShapeIndex
from rap_raster.scene import PolygonKind, Shapes

BoolArray = npt.NDArray[np.bool_]

CELL_M = 0.2
"""Size of a cell: maps are not more exact than that."""

TILE_CELLS = 256
TILE_M = CELL_M * TILE_CELLS

MAX_TILES = 128
"""Tiles kept: 8 MB, and 350 000 square metres."""

KINDS = (PolygonKind.DRIVABLE, PolygonKind.INTERSECTION, PolygonKind.CROSSWALK)
"""Polygons on which vehicles may drive."""


class DrivableArea:
    """Tells whether points of the map frame lie on the road."""

    def __init__(self, polygons: Shapes) -> None:
        """Takes the polygons of a map; those of other kinds are left out."""
        drivable = np.isin(polygons.kinds, [int(kind) for kind in KINDS])
        self._polygons = ShapeIndex(polygons.select(np.flatnonzero(drivable)))
        self.is_empty = not drivable.any()
        self._tiles: dict[tuple[int, int], BoolArray] = {}

    def contains(self, points_m: FloatArray) -> BoolArray:
        """Returns (...,) which of (..., 2) points are on the road."""
        flat_m = points_m.reshape(-1, 2)
        cells = np.floor(flat_m / CELL_M).astype(np.int64)
        tiles, within = np.divmod(cells, TILE_CELLS)
        keys = tiles @ [1 << 32, 1]
        result = np.zeros(len(flat_m), dtype=np.bool_)
        for key, first in zip(*np.unique(keys, return_index=True), strict=True):
            here = keys == key
            tile = self._tile(int(tiles[first, 0]), int(tiles[first, 1]))
            result[here] = tile[within[here, 1], within[here, 0]]
        return result.reshape(points_m.shape[:-1])

    def _tile(self, column: int, row: int) -> BoolArray:
        tile = self._tiles.get((column, row))
        if tile is None:
            if len(self._tiles) >= MAX_TILES:
                self._tiles.clear()
            tile = self._tiles[column, row] = self._drawn(column, row)
        return tile

    def _drawn(self, column: int, row: int) -> BoolArray:
        origin_m = TILE_M * np.array([column, row], dtype=np.float64)
        tile = np.zeros((TILE_CELLS, TILE_CELLS), dtype=np.bool_)
        near = self._polygons.near(origin_m + 0.5 * TILE_M, 0.5 * TILE_M)
        for index in range(len(near)):
            # In units of cells, so that the centre of cell i is at i.
            _fill(tile, (near[index][:, :2] - origin_m) / CELL_M - 0.5)
        return tile


def _fill(tile: BoolArray, ring: FloatArray) -> None:
    """Marks the cells whose centres lie within a ring; even-odd rule.

    Every edge switches all cells to its right in the rows that it crosses.
    """
    size = len(tile)
    low = np.clip(np.ceil(ring.min(axis=0)), 0, size).astype(np.int64)
    high = np.clip(np.floor(ring.max(axis=0)) + 1, 0, size).astype(np.int64)
    width, height = high - low
    if width <= 0 or height <= 0:
        return
    start, end = ring, np.roll(ring, -1, axis=0)
    bottom = np.ceil(np.minimum(start[:, 1], end[:, 1])).clip(low[1], high[1]).astype(np.int64)
    top = np.ceil(np.maximum(start[:, 1], end[:, 1])).clip(low[1], high[1]).astype(np.int64)
    counts = top - bottom
    edges = np.repeat(np.arange(len(ring)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - bottom, counts)
    rise = end[edges, 1] - start[edges, 1]
    share = (rows - start[edges, 1]) / rise
    crossed = start[edges, 0] + share * (end[edges, 0] - start[edges, 0])
    columns = np.ceil(crossed).clip(low[0], high[0]).astype(np.int64)
    flat = (rows - low[1]) * (width + 1) + columns - low[0]
    switches = np.bincount(flat, minlength=height * (width + 1)).reshape(height, width + 1)
    inside = np.cumsum(switches[:, :-1], axis=1) % 2 == 1
    tile[low[1] : high[1], low[0] : high[0]] |= inside
