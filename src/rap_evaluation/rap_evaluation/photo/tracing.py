"""Parts that are no boxes, traced into the channels of the rasterizer: pixel by pixel, same rays.

In each block of pixels the parts that its cone of rays can meet are listed, and those that the cone
of a smaller tile can meet are traced there; a pixel takes a part where that is nearer than what was
drawn before.
"""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rap_evaluation.photo.objects import Objects
from rap_evaluation.photo.samples import Pinhole, Sight
from rap_raster.camera import NEAR_M
from rap_raster.compiled import helper, kernel
from rap_raster.frames import FloatArray
from rap_raster.projection import FAR_M

_BLOCK_PX, _TILE_PX = 32, 8
_BOX, _ELLIPSOID = 0, 2  # of `objects`
_TREE = 101  # of `scenery`
# numba notices changes of this file only, so these are copies, which a test compares.

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Vector = tuple[float, float, float]
Part = tuple[float, float, float, float, float, float, float, float]


@helper
def _write_rays(pinhole: Pinhole, rays: Float32, top: int, left: int, ways: FloatArray) -> None:
    """Writes the rays of a block, camera frame, with z = 1; NaN where a lens shows nothing."""
    for j in range(ways.shape[0]):
        for i in range(ways.shape[1]):
            if len(rays):
                ways[j, i, 0], ways[j, i, 1] = (
                    rays[top + j, left + i, 0],
                    rays[top + j, left + i, 1],
                )
            else:
                ways[j, i, 0] = (left + i - pinhole[2]) / pinhole[0]
                ways[j, i, 1] = (top + j - pinhole[3]) / pinhole[1]


@helper
def _cone_around(ways: FloatArray, bent: bool) -> tuple[float, float, float, float, float]:
    """Returns the axis of a cone around rays, and cosine and sine of its half angle.

    The corners bound a rectangle that no lens has bent: it is plane, and a cone is convex.
    """
    x, y, z, cosine = 0.0, 0.0, 0.0, 1.0
    rows, columns = ways.shape[0], ways.shape[1]
    down, aside = (1, 1) if bent else (max(1, rows - 1), max(1, columns - 1))
    for j in range(0, rows, down):
        for i in range(0, columns, aside):
            u, v = ways[j, i, 0], ways[j, i, 1]
            if not math.isnan(u):
                x, y, z = x + u, y + v, z + 1.0
    length = math.sqrt(x * x + y * y + z * z)
    for j in range(0, rows, down):
        for i in range(0, columns, aside):
            u, v = ways[j, i, 0], ways[j, i, 1]
            if not math.isnan(u):
                cosine = min(cosine, (x * u + y * v + z) / (length * math.sqrt(u * u + v * v + 1)))
    return x / length, y / length, z / length, cosine, math.sqrt(max(0.0, 1.0 - cosine * cosine))


@helper
def _meets(cone: tuple[float, float, float, float, float], sphere: FloatArray) -> bool:
    """True if a narrow cone from the eye can meet a sphere; see `_spheres`."""
    cosine = cone[0] * sphere[0] + cone[1] * sphere[1] + cone[2] * sphere[2]
    # The angle between the axes is at most the sum of the half angles.
    return bool(cosine > cone[3] * sphere[3] - cone[4] * sphere[4])


@helper
def _unit_frame(part: Part, x: float, y: float, z: float) -> Vector:
    """Turns a map direction into the frame in which a part reaches from -1 to 1."""
    return (
        (part[6] * x + part[7] * y) / part[3],
        (part[6] * y - part[7] * x) / part[4],
        z / part[5],
    )


@helper
def _hit_ellipsoid(origin: Vector, way: Vector) -> tuple[float, float]:
    """Returns how far along a ray the unit sphere is, or infinity, and how squarely it is hit."""
    a = way[0] * way[0] + way[1] * way[1] + way[2] * way[2]
    b = origin[0] * way[0] + origin[1] * way[1] + origin[2] * way[2]
    c = origin[0] * origin[0] + origin[1] * origin[1] + origin[2] * origin[2] - 1.0
    root = b * b - a * c
    if root <= 0.0:
        return math.inf, 0.0
    root = math.sqrt(root)
    return (-b - root) / a, root / math.sqrt(a)


@helper
def _wave(x: float) -> float:
    """A triangular wave of period one between -1 and 1: a sine would cost as much as a tree."""
    return 4.0 * abs(x - math.floor(x) - 0.5) - 1.0


@helper
def _between_leaves(origin: Vector, way: Vector, t: float, squarely: float) -> bool:
    """True where the silhouette of a crown is frayed: a ray that grazes it goes on."""
    if squarely > 0.70:
        return False
    x, y, z = origin[0] + t * way[0], origin[1] + t * way[1], origin[2] + t * way[2]
    return squarely < 0.30 + 0.40 * _wave(1.4 * x + 1.1 * z) * _wave(1.7 * y - 0.8 * z)


@helper
def _hit_frustum(origin: Vector, way: Vector, insets: Vector) -> float:
    """Returns how far along a ray a frustum of the unit box is, or infinity."""
    enter, leave = -math.inf, math.inf
    for plane in range(6):
        sign = 1.0 if plane % 2 == 0 else -1.0
        if plane < 4:
            axis, lean = plane // 2, 0.5 * insets[min(plane, 2)]
            height = 1.0 - lean - sign * origin[axis] - lean * origin[2]
            slope = sign * way[axis] + lean * way[2]
        else:
            height, slope = 1.0 - sign * origin[2], sign * way[2]
        if slope < 0.0:
            enter = max(enter, height / slope)
        elif slope > 0.0:
            leave = min(leave, height / slope)
        elif height < 0.0:
            return math.inf
    return enter if enter < leave else math.inf


@helper
def _spheres(
    objects: Objects, map_from_camera: FloatArray, order: npt.NDArray[np.intp], found: Int32
) -> FloatArray:
    """Lists the parts to trace and returns the cones from the eye around them.

    Those are direction, camera frame, cosine and sine of the half angle, and the least depth.
    """
    parts = objects.parts
    spheres = np.empty((len(parts), 6))
    count = 0
    for k in order:
        if objects.shapes[k] == _BOX:
            continue
        dx = parts[k, 0] - map_from_camera[0, 3]
        dy = parts[k, 1] - map_from_camera[1, 3]
        dz = parts[k, 2] - map_from_camera[2, 3]
        radius = math.sqrt(parts[k, 3] ** 2 + parts[k, 4] ** 2 + parts[k, 5] ** 2)
        distance = math.sqrt(dx * dx + dy * dy + dz * dz)
        found[count] = k
        if distance <= radius + NEAR_M:  # beside the camera: it may be in sight anywhere
            spheres[count] = (0.0, 0.0, 1.0, 0.0, 1.0, -math.inf)
            count += 1
            continue
        sine = radius / distance
        for axis in range(3):
            spheres[count, axis] = (
                map_from_camera[0, axis] * dx
                + map_from_camera[1, axis] * dy
                + map_from_camera[2, axis] * dz
            ) / distance
        if spheres[count, 2] >= -sine:
            spheres[count, 3], spheres[count, 4] = math.sqrt(1.0 - sine * sine), sine
            spheres[count, 5] = spheres[count, 2] * distance - radius
            count += 1
    return spheres[:count]


def trace(sight: Sight, objects: Objects) -> None:
    """Draws frustums and ellipsoids over what the rasterizer drew.

    A part that encloses the camera is not drawn, as with boxes.

    Args:
        sight: Its channels are changed where a part is nearer than what they show.
        objects: All that the camera may see.
    """
    offset = objects.parts[:, :3] - sight.map_from_camera[:3, 3]
    nearest_first = np.argsort((offset * offset).sum(axis=1), kind="stable")
    _trace(sight, objects, nearest_first)


@kernel
def _trace(sight: Sight, objects: Objects, order: npt.NDArray[np.intp]) -> None:
    """Traces the parts tile by tile, in an order that saves looking for leaves that are hidden."""
    map_from_camera = sight.map_from_camera
    height, width = sight.classes.shape
    found = np.empty(len(objects.parts), np.int32)
    spheres = _spheres(objects, map_from_camera, order, found)
    listed = np.empty(len(spheres), np.int32)
    ways = np.empty((_BLOCK_PX, _BLOCK_PX, 2))
    for top in range(0, height, _BLOCK_PX):
        for left in range(0, width, _BLOCK_PX):
            bottom, right = min(top + _BLOCK_PX, height), min(left + _BLOCK_PX, width)
            block = ways[: bottom - top, : right - left]
            _write_rays(sight.pinhole, sight.rays, top, left, block)
            cone = _cone_around(block, len(sight.rays) > 0)
            farthest_m = _farthest(sight.depths_m[top:bottom, left:right])
            count = 0
            for n in range(len(spheres)):
                if spheres[n, 5] < farthest_m and _meets(cone, spheres[n]):
                    listed[count] = n
                    count += 1
            if count:
                _trace_block(
                    block, map_from_camera, objects, spheres, found, listed[:count],
                    len(sight.rays) > 0, sight.classes[top:bottom, left:right],
                    sight.indices[top:bottom, left:right], sight.depths_m[top:bottom, left:right],
                )  # fmt: skip


@helper
def _farthest(depths_m: Float32) -> float:
    """Returns the largest depth in a rectangle."""
    farthest = np.float32(0.0)
    for j in range(depths_m.shape[0]):
        for i in range(depths_m.shape[1]):
            farthest = max(farthest, depths_m[j, i])
    return float(farthest)


@helper
def _trace_block(
    ways: FloatArray, map_from_camera: FloatArray, objects: Objects, spheres: FloatArray,
    found: Int32, listed: Int32, bent: bool,
    classes: npt.NDArray[np.uint8], indices: Int32, depths_m: Float32,
) -> None:  # fmt: skip
    """Traces the listed parts in one block, tile by tile."""
    for top in range(0, ways.shape[0], _TILE_PX):
        for left in range(0, ways.shape[1], _TILE_PX):
            bottom = min(top + _TILE_PX, ways.shape[0])
            right = min(left + _TILE_PX, ways.shape[1])
            tile = ways[top:bottom, left:right]
            cone = _cone_around(tile, bent)
            for n in listed:
                seen = depths_m[top:bottom, left:right]
                if _meets(cone, spheres[n]) and spheres[n, 5] < _farthest(seen):
                    _trace_part(
                        tile, map_from_camera, objects, found[n], classes[top:bottom, left:right],
                        indices[top:bottom, left:right], seen,
                    )  # fmt: skip


@helper
def _trace_part(
    ways: FloatArray, m: FloatArray, objects: Objects, k: int,
    classes: npt.NDArray[np.uint8], indices: Int32, depths_m: Float32,
) -> None:  # fmt: skip
    """Traces one part in one tile."""
    p = objects.parts[k]
    part = (p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7])
    insets = (p[8], p[9], p[10])
    origin = _unit_frame(part, m[0, 3] - p[0], m[1, 3] - p[1], m[2, 3] - p[2])
    right = _unit_frame(part, m[0, 0], m[1, 0], m[2, 0])
    down = _unit_frame(part, m[0, 1], m[1, 1], m[2, 1])
    ahead = _unit_frame(part, m[0, 2], m[1, 2], m[2, 2])
    code, shape = objects.codes[objects.owners[k]], objects.shapes[k]
    range_m = math.inf if code == _TREE else FAR_M  # of what else is drawn of the same object
    for row in range(ways.shape[0]):
        for column in range(ways.shape[1]):
            u, v = ways[row, column, 0], ways[row, column, 1]
            way = (
                right[0] * u + down[0] * v + ahead[0],
                right[1] * u + down[1] * v + ahead[1],
                right[2] * u + down[2] * v + ahead[2],
            )
            squarely = 1.0
            if shape == _ELLIPSOID:
                t, squarely = _hit_ellipsoid(origin, way)
            else:
                t = _hit_frustum(origin, way, insets)
            if not NEAR_M < t < min(range_m, depths_m[row, column]):
                continue
            if code != _TREE or not _between_leaves(origin, way, t, squarely):
                depths_m[row, column] = t
                classes[row, column], indices[row, column] = code, k + 1
