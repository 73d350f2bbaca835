"""Where the road is and where it is not: the clearance of every place from all that is mapped."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from rap_raster.compiled import kernel
from rap_raster.frames import FloatArray
from rap_raster.scene import LineKind, PolygonKind, Shapes

CELL_M = 0.5
"""Fine enough for kerbs to look smooth, since clearances are interpolated."""

CLEARANCE_ERROR_M = 0.75
"""A cell's middle is up to 0.36 m from places in it, and shapes are drawn as coarsely, too."""

LANE_WIDTH_M = 3.5
"""Of lanes that are known by lines alone."""

EDGE_STEP_M = 2.0
"""Distance between the points that tell where the nearest road is."""

BRIDGE_M, BRIDGE_CELL_M = 4.0, 32.0
"""What is this much above the lowest road of its square is a bridge: lorries pass below it."""

OUTSIDE_M = 100.0
"""Clearance of places that were not measured."""

_JUNCTION_KINDS = (LineKind.STOP_LINE, PolygonKind.CROSSWALK, PolygonKind.INTERSECTION)

_FRACTION_BITS = 4  # cv2's fixed-point coordinates


@dataclass(frozen=True, slots=True)
class Roadside:
    """A square of a map, seen as distances to its roads.

    Attributes:
        origin_m: (2,) least x and y, map frame; the middle of the first cell.
        clearance_m: (rows, columns) float32 by y and x; 0 on anything mapped.
        edges: Tree of the x and y of n points of the mapped shapes, `EDGE_STEP_M` apart; not those
            of bridges.
        heights_m: (n,) of those points.
        junctions: Tree of the x and y of points of intersections, crosswalks and stop lines.
    """

    origin_m: FloatArray
    clearance_m: npt.NDArray[np.float32]
    edges: cKDTree
    heights_m: FloatArray
    junctions: cKDTree

    def clearance_at(self, points_m: FloatArray) -> npt.NDArray[np.float32]:
        """Returns the clearance of (..., 2) places, to `CLEARANCE_ERROR_M`; 0 outside."""
        cells = np.rint((points_m[..., :2] - self.origin_m) / CELL_M).astype(int)
        rows, columns = self.clearance_m.shape
        x, y = cells[..., 0], cells[..., 1]
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
        found = self.clearance_m[np.where(inside, y, 0), np.where(inside, x, 0)]
        return np.where(inside, found, np.float32(0.0))

    def junction_distance_at(self, points_m: FloatArray) -> FloatArray:
        """Returns the distance of (n, 2) places to the nearest junction, infinity without one."""
        distance_m: FloatArray = self.junctions.query(points_m)[0]
        return distance_m

    def height_at(self, points_m: FloatArray) -> FloatArray:
        """Returns the height of the nearest mapped point of (n, 2) places; there must be one."""
        _, nearest = self.edges.query(points_m)
        result: FloatArray = self.heights_m[nearest]
        return result


def roadside(lines: Shapes, areas: Shapes, low_m: FloatArray, size_m: float) -> Roadside:
    """Measures a square of a map.

    Args:
        lines: All polylines that come near the square. Centrelines are lanes, and where no area is
            drivable so are all other lines; routes are no part of the road.
        areas: All polygons that come near the square.
        low_m: (2,) least x and y, whole multiples of `CELL_M`, so that squares agree.
        size_m: Side of the square.
    """
    count = round(size_m / CELL_M)
    free = np.full((count, count), 255, np.uint8)
    lines = lines.select(np.flatnonzero(lines.kinds != LineKind.ROUTE))
    are_lanes = (lines.kinds == LineKind.LANE_CENTERLINE) | ~np.isin(
        PolygonKind.DRIVABLE, areas.kinds
    )
    for i in range(len(areas)):
        cv2.fillPoly(free, [_cells(areas[i], low_m)], 0, shift=_FRACTION_BITS)
    for i in range(len(lines)):
        width_m = LANE_WIDTH_M if are_lanes[i] else CELL_M
        thickness, cells = round(width_m / CELL_M), _cells(lines[i], low_m)
        cv2.polylines(
            free, [cells], isClosed=False, color=0, thickness=thickness, shift=_FRACTION_BITS
        )
    clearance_m = cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * CELL_M
    edges_m = np.concatenate([_densified(lines), _densified(areas)])
    edges_m = _below_bridges(edges_m)
    at_junctions = [
        _densified(shapes.select(np.flatnonzero(np.isin(shapes.kinds, _JUNCTION_KINDS))))[:, :2]
        for shapes in (lines, areas)
    ]
    return Roadside(
        low_m,
        clearance_m,
        cKDTree(edges_m[:, :2]),
        edges_m[:, 2],
        cKDTree(np.concatenate(at_junctions)),
    )


def _cells(points_m: FloatArray, low_m: FloatArray) -> npt.NDArray[np.int32]:
    """Returns cv2's fixed-point coordinates of map positions."""
    cells: FloatArray = (points_m[:, :2] - low_m) / CELL_M
    result: npt.NDArray[np.int32] = np.rint(cells * 2.0**_FRACTION_BITS).astype(np.int32)
    return result


def _densified(shapes: Shapes) -> FloatArray:
    """Returns points along all segments of shapes, at most `EDGE_STEP_M` apart."""
    first = np.delete(np.arange(len(shapes.points_m)), shapes.offsets[1:] - 1)
    start, end = shapes.points_m[first], shapes.points_m[first + 1]
    counts = np.ceil(np.linalg.norm((end - start)[:, :2], axis=1) / EDGE_STEP_M).astype(int) + 1
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    share = within / np.repeat(np.maximum(counts - 1, 1), counts)
    result: FloatArray = (
        np.repeat(start, counts, axis=0) + np.repeat(end - start, counts, axis=0) * share[:, None]
    )
    return result


def _below_bridges(points_m: FloatArray) -> FloatArray:
    """Returns the points that lie no more than a bridge's height above the lowest around them."""
    if len(points_m) == 0:
        return points_m
    column, row = np.floor(points_m[:, :2] / BRIDGE_CELL_M).astype(np.int64).T
    _, cell = np.unique(column * 2**32 + row, return_inverse=True)
    lowest = np.full(cell.max() + 1, np.inf)
    np.minimum.at(lowest, cell, points_m[:, 2])
    result: FloatArray = points_m[points_m[:, 2] < lowest[cell] + BRIDGE_M]
    return result


@kernel
def clearances(
    points_m: FloatArray, low_m: tuple[float, float], clearance_m: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Interpolates the clearance at (S, 2 or more) places, for smooth kerbs.

    Args:
        points_m: Map frame.
        low_m: `Roadside.origin_m`.
        clearance_m: `Roadside.clearance_m`.

    Returns:
        (S,) metres; a large number outside of what was measured.
    """
    found = np.full(len(points_m), np.float32(OUTSIDE_M))
    rows, columns = clearance_m.shape
    for s in range(len(points_m)):
        gx, gy = (points_m[s, 0] - low_m[0]) / CELL_M, (points_m[s, 1] - low_m[1]) / CELL_M
        if 0.0 <= gx < columns - 1 and 0.0 <= gy < rows - 1:
            i, j = int(gx), int(gy)
            fx, fy = gx - i, gy - j
            low = (1 - fx) * clearance_m[j, i] + fx * clearance_m[j, i + 1]
            high = (1 - fx) * clearance_m[j + 1, i] + fx * clearance_m[j + 1, i + 1]
            found[s] = (1 - fy) * low + fy * high
    return found
