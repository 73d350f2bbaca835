"""Shadows: what takes the light of the sun or of the sky from the samples of a picture.

A grid around the ego lists for each cell of the ground what may shade it.
"""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rap_evaluation.photo.objects import Objects
from rap_evaluation.photo.samples import Samples
from rap_raster.compiled import helper, kernel
from rap_raster.frames import FloatArray

CELL_M, CELLS = 4.0, 48
"""Shadows farther than 96 m from the ego are not drawn: they would be a pixel high."""

PENUMBRA_M = 0.08
"""Half width of the blurred edges of shadows: the sun is half a degree wide, some metres away."""

CONTACT_M = 0.7
"""Ground this near to a wall or a car sees less of the sky."""

_MOST_M = 0.7 * PENUMBRA_M  # along x and along y

_ELLIPSOID, _TREE = 2, 101  # of `objects` and `scenery`
# numba notices changes of this file only, so these are copies, which a test compares.

Vector = tuple[float, float, float]
Box = tuple[float, float, float, float, float, float, float, float]
Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


class ShadowGrid(NamedTuple):
    """Lists of boxes by cell of a square grid, row by row.

    Attributes:
        low: Least x and y of the grid and height of the plane it lies in, map frame.
        starts: (CELLS * CELLS + 1,) int32; cell i lists members[starts[i] : starts[i + 1]].
        members: int32 indices of boxes.
    """

    low: Vector
    starts: Int32
    members: Int32


def shadow_grid(
    boxes: FloatArray, direction: Vector, center_m: Vector, margin_m: float
) -> ShadowGrid:
    """Lists the boxes whose shadows may fall on each cell of a level plane.

    Args:
        boxes: (N, 8 or more) float64 centre, half size, cosine and sine of the yaw.
        direction: Unit vector towards the sun.
        center_m: Middle of the grid; its height is that of the plane.
        margin_m: How much wider the shadows are taken.
    """
    slope = (direction[0] / direction[2], direction[1] / direction[2])
    reach = 0.5 * CELL_M * CELLS
    low = (float(center_m[0] - reach), float(center_m[1] - reach), float(center_m[2]))
    starts, members = _fill(boxes, slope, low, margin_m)
    return ShadowGrid(low, starts, members)


@helper
def _covered(
    box: FloatArray, slope: tuple[float, float], low: Vector, margin_m: float
) -> tuple[int, int, int, int]:
    """Returns the first and end column, first and end row of the cells that a shadow can reach."""
    wide = abs(box[6]) * box[3] + abs(box[7]) * box[4] + margin_m
    high = abs(box[7]) * box[3] + abs(box[6]) * box[4] + margin_m
    bottom, top = box[2] - box[5] - low[2], box[2] + box[5] - low[2]
    x, y = box[0] - low[0], box[1] - low[1]
    left = x - wide - max(slope[0] * bottom, slope[0] * top)
    right = x + wide - min(slope[0] * bottom, slope[0] * top)
    near = y - high - max(slope[1] * bottom, slope[1] * top)
    far = y + high - min(slope[1] * bottom, slope[1] * top)
    return (
        max(0, math.floor(left / CELL_M)), min(CELLS, math.floor(right / CELL_M) + 1),
        max(0, math.floor(near / CELL_M)), min(CELLS, math.floor(far / CELL_M) + 1),
    )  # fmt: skip


@helper
def _to_box(box: Box, x: float, y: float, z: float) -> Vector:
    """Turns a map direction into a box's axes, in units of its half size."""
    return (
        (box[6] * x + box[7] * y) / box[3],
        (box[6] * y - box[7] * x) / box[4],
        z / box[5],
    )


@helper
def _box(boxes: FloatArray, k: int) -> Box:
    return (
        boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3],
        boxes[k, 4], boxes[k, 5], boxes[k, 6], boxes[k, 7],
    )  # fmt: skip


@helper
def _beneath(
    box: Box, slope: tuple[float, float], low: Vector, margin_m: float, row: int, column: int
) -> bool:
    """False if a cell lies beside the strip that a box sweeps along the sun's direction."""
    length = math.sqrt(slope[0] * slope[0] + slope[1] * slope[1])
    if length < 1e-6:
        return True
    x, y = -slope[1] / length, slope[0] / length
    wide = abs(x * box[6] + y * box[7]) * box[3] + abs(y * box[6] - x * box[7]) * box[4]
    beside = x * (low[0] + (column + 0.5) * CELL_M - box[0])
    beside += y * (low[1] + (row + 0.5) * CELL_M - box[1])
    return abs(beside) <= wide + margin_m + 0.71 * CELL_M


@kernel
def _fill(
    boxes: FloatArray, slope: tuple[float, float], low: Vector, margin_m: float
) -> tuple[Int32, Int32]:
    """Counts the members of every cell, then lists them."""
    starts = np.zeros(CELLS * CELLS + 2, np.int32)
    for k in range(len(boxes)):
        first, end, bottom, top = _covered(boxes[k], slope, low, margin_m)
        for row in range(bottom, top):
            for column in range(first, end):
                if _beneath(_box(boxes, k), slope, low, margin_m, row, column):
                    starts[row * CELLS + column + 2] += 1
    for cell in range(CELLS * CELLS + 1):
        starts[cell + 1] += starts[cell]
    members = np.empty(starts[-1], np.int32)
    for k in range(len(boxes)):
        first, end, bottom, top = _covered(boxes[k], slope, low, margin_m)
        for row in range(bottom, top):
            for column in range(first, end):
                at = row * CELLS + column + 1
                if _beneath(_box(boxes, k), slope, low, margin_m, row, column):
                    members[starts[at]] = k
                    starts[at] += 1
    return starts[:-1], members


@helper
def _blocks(o: Vector, d: Vector, is_round: bool) -> bool:
    """True if a ray meets the box from -1 to 1, or the unit sphere.

    For a box, `d` holds the reciprocals of the direction.
    """
    if is_round:
        toward = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
        length = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
        beyond = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1.0
        return toward < 0.0 and toward * toward > length * beyond
    enter, leave = 0.0, math.inf
    for axis in range(3):
        a, b = (-1.0 - o[axis]) * d[axis], (1.0 - o[axis]) * d[axis]
        enter, leave = max(enter, min(a, b)), min(leave, max(a, b))
    return enter < leave


@helper
def _cell(low: Vector, x: float, y: float) -> int:
    """Returns the cell of a place in the plane of a grid, -1 outside."""
    column, row = math.floor((x - low[0]) / CELL_M), math.floor((y - low[1]) / CELL_M)
    if 0 <= column < CELLS and 0 <= row < CELLS:
        return int(row * CELLS + column)
    return -1


@helper
def _sun_from_parts(objects: Objects, sun: Vector) -> FloatArray:
    """Returns the way to the sun in the axes of every part, as `_blocks` takes it."""
    toward = np.empty((len(objects.parts), 3))
    for k in range(len(toward)):
        d = _to_box(_box(objects.parts, k), sun[0], sun[1], sun[2])
        is_round = objects.shapes[k] == _ELLIPSOID
        for axis in range(3):
            toward[k, axis] = d[axis] if is_round else 1.0 / d[axis]
    return toward


@helper
def _moved(x: float, y: float, z: float) -> tuple[float, float]:
    """Moves a place about, to blur the edges of shadows."""
    aside, beyond = 173.0 * x + 291.0 * y + 230.0 * z, 211.0 * y - 307.0 * x + 190.0 * z
    return x + _MOST_M * math.sin(aside), y + _MOST_M * math.sin(beyond)


@kernel
def sunlit(samples: Samples, objects: Objects, grid: ShadowGrid, sun: Vector) -> UInt8:
    """Finds out on which samples the sun shines.

    Args:
        samples: Of a picture.
        objects: Their parts cast shadows, but not on their own object.
        grid: Of the parts, towards the sun.
        sun: Unit vector towards it, map frame.

    Returns:
        (S,) 1 in the sun, 0 in the shadow.
    """
    lit, parts = np.ones(len(samples.codes), np.uint8), objects.parts
    toward = _sun_from_parts(objects, sun)
    for s in range(len(lit)):
        if samples.distances_m[s] == math.inf or samples.codes[s] == _TREE:
            continue  # leaves shade themselves; see `shading`
        part = samples.parts[s]
        own = objects.owners[part] if part >= 0 else -1
        z = samples.points_m[s, 2]
        x, y = _moved(samples.points_m[s, 0], samples.points_m[s, 1], z)
        drop = (z - grid.low[2]) / sun[2]
        cell = _cell(grid.low, x - drop * sun[0], y - drop * sun[1])
        if cell < 0:
            continue
        for n in range(grid.starts[cell], grid.starts[cell + 1]):
            k = grid.members[n]
            if objects.owners[k] == own:
                continue
            o = _to_box(_box(parts, k), x - parts[k, 0], y - parts[k, 1], z - parts[k, 2])
            d = (toward[k, 0], toward[k, 1], toward[k, 2])
            if _blocks(o, d, objects.shapes[k] == _ELLIPSOID):
                lit[s] = 0
                break
    return lit


@kernel
def openness(samples: Samples, objects: Objects, grid: ShadowGrid) -> Float32:
    """Finds out how much of the sky ground sees beside and below objects.

    Args:
        samples: Of a picture.
        objects: They stand in the way.
        grid: Of the objects, straight up and `CONTACT_M` wider.

    Returns:
        (S,) 1 in the open, less near objects; 1 on objects.
    """
    shares = np.ones(len(samples.codes), np.float32)
    for s in range(len(shares)):
        if samples.parts[s] >= 0 or samples.distances_m[s] == math.inf:
            continue
        x, y, z = samples.points_m[s, 0], samples.points_m[s, 1], samples.points_m[s, 2]
        cell = _cell(grid.low, x, y)
        if cell < 0:
            continue
        share = 1.0
        for n in range(grid.starts[cell], grid.starts[cell + 1]):
            box = _box(objects.boxes, grid.members[n])
            if box[2] - box[5] > z + 0.5 or box[2] + box[5] < z - 0.5:  # above or below a bridge
                continue
            o = _to_box(box, x - box[0], y - box[1], 0.0)
            along, across = max(0.0, abs(o[0]) - 1.0) * box[3], max(0.0, abs(o[1]) - 1.0) * box[4]
            near = max(0.0, 1.0 - math.sqrt(along * along + across * across) / CONTACT_M)
            share = min(share, 1.0 - 0.7 * near * near)
        shares[s] = share
    return shares
