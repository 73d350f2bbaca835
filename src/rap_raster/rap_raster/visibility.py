"""What one camera image shows: the stages from a scene's geometry to trapezoids, in order."""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rap_raster.compiled import helper, kernel
from rap_raster.frames import FloatArray
from rap_raster.ground import Ground
from rap_raster.polygons import (
    SINK_M,
    Corners,
    Polygons,
    add_ground,
    add_solids,
    visible_patches,
)
from rap_raster.projection import SIDE_MARGIN_RAD, Quad, View, view_sides
from rap_raster.solids import Solids, mark, paint_order, visible_solids
from rap_raster.trapezoids import RowScratch, Trapezoids, cut, test_depth

MAX_ORDERED = 4096
"""More solids in one view are not ordered but tested for depth everywhere."""

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]


@helper
def _camera_from_map(ego: Quad, ego_from_camera: FloatArray, eye: FloatArray) -> FloatArray:
    """Returns the (3, 4) transform into the camera, and writes its position in the map."""
    x, y, z, yaw = ego
    cos, sin = math.cos(yaw), math.sin(yaw)
    e = ego_from_camera
    eye[0] = x + cos * e[0, 3] - sin * e[1, 3]
    eye[1] = y + sin * e[0, 3] + cos * e[1, 3]
    eye[2] = z + e[2, 3]
    result = np.empty((3, 4))
    for i in range(3):
        # Row i of the inverse rotation is column i of the rotation.
        result[i, 0] = cos * e[0, i] - sin * e[1, i]
        result[i, 1] = sin * e[0, i] + cos * e[1, i]
        result[i, 2] = e[2, i]
        result[i, 3] = -(result[i, 0] * eye[0] + result[i, 1] * eye[1] + result[i, 2] * eye[2])
    return result


@helper
def _mark_hiding_ground(
    ground: Ground, visible: Int32, solids: Solids, seen: Int32, rects: FloatArray,
    eye: FloatArray, pinhole: Quad, width: int, deep: Int32,
) -> None:  # fmt: skip
    """Marks where ground may hide something that is drawn after it.

    Seen from above, layers that are level cannot, if nothing is more than `SINK_M` below them.
    """
    if len(visible) == 0:
        return
    low, high = math.inf, -math.inf
    level = True
    first = visible[0]
    for p in visible:
        if ground.layers[p] != ground.layers[first]:
            first = p
        level &= ground.heights_m[p, 0] == ground.heights_m[first, 0]
        level &= ground.heights_m[p, 1] == ground.heights_m[first, 0]
        low, high = min(low, ground.heights_m[p, 0]), max(high, ground.heights_m[p, 1])
    if not level or high - low > SINK_M or eye[2] <= high:
        deep[:, 0], deep[:, 1] = 0, width
        return
    for k in range(len(seen)):
        if solids.centers_m[seen[k], 2] - solids.halves_m[seen[k], 2] < high - SINK_M:
            rect = (rects[k, 0], rects[k, 1], rects[k, 2], rects[k, 3])
            mark(rect, pinhole, width, deep)


@helper
def _order_and_mark(
    ground: Ground, visible: Int32, solids: Solids, seen: Int32, rects: FloatArray,
    distances: FloatArray, eye: FloatArray, pinhole: Quad, model: int, width: int, deep: Int32,
) -> Int32:  # fmt: skip
    """Orders the visible solids for painting, and marks where that or the ground needs a test."""
    deep[:, 0], deep[:, 1] = width, 0
    # Through a lens, where exactly does not matter, for then all is marked below.
    image_of = pinhole if model == 0 else (0.0, 0.0, 0.5 * width, 0.5 * len(deep))
    if len(seen) <= MAX_ORDERED:
        order = paint_order(solids, seen, rects, distances, eye, image_of, width, deep)
    else:
        order = np.arange(len(seen)).astype(np.int32)
        deep[:, 0], deep[:, 1] = 0, width
    _mark_hiding_ground(ground, visible, solids, seen, rects, eye, image_of, width, deep)
    if model and _any_deep(deep):
        deep[:, 0], deep[:, 1] = 0, width
    return order


@helper
def _any_deep(deep: Int32) -> bool:
    """True if something is marked."""
    return bool((deep[:, 0] < deep[:, 1]).any())


@helper
def _all_fit(polygons: Polygons) -> bool:
    """True if no more was found than the arrays have room for."""
    return bool(
        polygons.counts[0] <= len(polygons.u)
        and polygons.counts[1] <= len(polygons.owners)
        and polygons.counts[2] <= len(polygons.codes)
    )


@kernel
def see(
    ego: Quad, ego_from_camera: FloatArray, pinhole: Quad, bounds: Quad, px: float,
    model: int, coeffs: FloatArray, rays: Float32,
    ground: Ground, solids: Solids, with_planes: bool,
    corners: Corners, scratch: RowScratch, polygons: Polygons, trapezoids: Trapezoids,
    tested: Trapezoids,
) -> bool:  # fmt: skip
    """Finds out what one camera image shows.

    Args:
        ego: x, y, z in metres and yaw in radians, map frame.
        ego_from_camera: (4, 4) rigid transform.
        pinhole: See `View`.
        bounds: See `View`.
        px: See `View`.
        model: See `View`.
        coeffs: See `View`.
        rays: See `inverse_depths`.
        ground: Layers of the map.
        solids: Boxes and lights.
        with_planes: True if some channel needs inverse depths.
        corners: Scratch.
        scratch: Scratch.
        polygons: Written.
        trapezoids: Written.
        tested: Written where pixels had to be tested for depth.

    Returns:
        True if `tested` holds the result, False if `trapezoids` does. Counts beyond the size of
        the arrays say what is needed: enlarge them and call again.
    """
    eye = np.empty(3)
    camera_from_map = _camera_from_map(ego, ego_from_camera, eye)
    far_sides = view_sides(bounds, SIDE_MARGIN_RAD)
    view = View(camera_from_map, pinhole, bounds, far_sides, px, model, coeffs)
    widest_px = px * np.max(ground.min_px) if len(ground.min_px) else 0.0
    sides = view_sides(bounds, 0.5 * widest_px / min(pinhole[0], pinhole[1]))
    patches = np.empty(len(ground.patches), np.int32)
    visible = patches[: visible_patches(view, ground, sides, patches)]
    room = len(solids.centers_m)
    indices, facing = np.empty(room, np.int32), np.empty(room, np.uint8)
    rects, distances = np.empty((room, 4)), np.empty(room)
    count = visible_solids(view, solids, eye, indices, facing, rects, distances)
    seen, deep = indices[:count], scratch.deep
    order = _order_and_mark(
        ground, visible, solids, seen, rects[:count], distances[:count], eye, pinhole, model,
        scratch.nearest.shape[1], deep,
    )  # fmt: skip
    any_deep = _any_deep(deep)
    with_planes = with_planes or any_deep
    polygons.counts[:], polygons.starts[0] = 0, 0
    add_ground(view, ground, sides, visible, corners, with_planes, polygons)
    add_solids(view, solids, seen, facing, order, with_planes, polygons)
    if not _all_fit(polygons):
        return False
    cut(polygons, len(deep), scratch, trapezoids)
    if not any_deep or trapezoids.counts[0] > len(trapezoids.owners):
        return False
    test_depth(trapezoids, polygons.planes, rays, scratch, tested)
    return True
