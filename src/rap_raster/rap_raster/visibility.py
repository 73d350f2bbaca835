"""What one camera image shows: the stages from a scene's geometry to trapezoids, in order."""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rap_raster.compiled import kernel
from rap_raster.frames import FloatArray
from rap_raster.ground import Ground
from rap_raster.polygons import (
    SINK_M,
    Corners,
    Polygons,
    View,
    add_ground,
    add_solids,
    view_sides,
    transform_corners,
    visible_patches,
    visible_solids,
)
from rap_raster.solids import Solids, paint_order
from rap_raster.trapezoids import RowScratch, Trapezoids, cut, test_depth

MAX_ORDERED = 4096
"""More solids in one view are not ordered but tested for depth in every row."""

Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


@kernel
def _mark_hiding_ground(
    view: View, ground: Ground, visible: Int32, solids: Solids, seen: Int32, rects: FloatArray,
    eye: FloatArray, deep: UInt8,
) -> None:  # fmt: skip
    """Marks the rows in which ground may hide something that is drawn after it.

    Seen from above, level ground cannot, if nothing is more than `SINK_M` below it.
    """
    if len(visible) == 0:
        return
    low, high = math.inf, -math.inf
    level = True
    for p in visible:
        level &= ground.heights_m[p, 0] == ground.heights_m[p, 1]
        low, high = min(low, ground.heights_m[p, 0]), max(high, ground.heights_m[p, 1])
    if not level or high - low > SINK_M or eye[2] <= high:
        deep[:] = 1
        return
    for k in range(len(seen)):
        if solids.centers_m[seen[k], 2] - solids.halves_m[seen[k], 2] < high - SINK_M:
            top = rects[k, 2] * view.pinhole[1] + view.pinhole[3]
            deep[int(min(max(top, 0.0), len(deep))) :] = 1


@kernel
def see(
    view: View, eye: FloatArray, ground: Ground, solids: Solids, with_planes: bool,
    corners: Corners, scratch: RowScratch, polygons: Polygons, trapezoids: Trapezoids,
    tested: Trapezoids,
) -> bool:  # fmt: skip
    """Finds out what one camera image shows.

    Args:
        view: The camera.
        eye: (3,) its position, map frame.
        ground: Layers of the map.
        solids: Boxes and lights.
        with_planes: True if some channel needs inverse depths.
        corners: Scratch.
        scratch: Scratch.
        polygons: Written.
        trapezoids: Written.
        tested: Written where rows had to be tested for depth.

    Returns:
        True if `tested` holds the result, False if `trapezoids` does. Counts beyond the size of
        the arrays say what is needed: enlarge them and call again.
    """
    largest_px = 0.0
    for layer in range(len(ground.min_px)):
        largest_px = max(largest_px, ground.min_px[layer] * view.px)
    sides = view_sides(view, 0.5 * largest_px / min(view.pinhole[0], view.pinhole[1]))
    patches = np.empty(len(ground.patches), np.int32)
    visible = patches[: visible_patches(view, ground, sides, patches)]
    room = len(solids.centers_m)
    indices, facing = np.empty(room, np.int32), np.empty(room, np.uint8)
    rects, distances = np.empty((room, 4)), np.empty(room)
    count = visible_solids(view, solids, eye, indices, facing, rects, distances)
    seen = indices[:count]
    deep = scratch.deep
    deep[:] = 0
    if count <= MAX_ORDERED:
        row_of = (view.pinhole[1], view.pinhole[3])
        order = paint_order(solids, seen, rects[:count], distances[:count], eye, row_of, deep)
    else:
        order = np.arange(count).astype(np.int32)
        deep[:] = 1
    _mark_hiding_ground(view, ground, visible, solids, seen, rects, eye, deep)
    any_deep = deep.any()
    if any_deep and view.model:
        deep[:] = 1  # a lens bends rows
    with_planes = with_planes or any_deep
    polygons.counts[:] = 0
    polygons.starts[0] = 0
    transform_corners(view, ground, sides, visible, corners)
    add_ground(view, ground, visible, corners, with_planes, polygons)
    add_solids(view, solids, seen, facing, order, with_planes, polygons)
    if (
        polygons.counts[0] > len(polygons.u)
        or polygons.counts[1] > len(polygons.owners)
        or polygons.counts[2] > len(polygons.codes)
    ):
        return False
    cut(polygons, len(deep), scratch, trapezoids)
    if not any_deep or trapezoids.counts[0] > len(trapezoids.owners):
        return False
    test_depth(trapezoids, polygons.planes, view.rays, scratch, tested)
    return True
