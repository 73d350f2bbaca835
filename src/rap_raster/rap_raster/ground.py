"""The ground of a map as faces: lines become mitred ribbons, areas are cut into triangles.

Built once per map and style, in the map frame, and shared by every scene, ego pose and camera.
Faces are grouped into patches, and a patch outside the view costs one test: that is the map query.
"""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rap_raster.compiled import helper, kernel, writable
from rap_raster.frames import FloatArray
from rap_raster.scene import Shapes
from rap_raster.styles import Style

MITRE_LIMIT = 2.0
"""A mitre reaches at most this many half widths, at a bend of 120 degrees. At sharper bends, where
it would grow into a spike, both segments end square."""

PATCH_FACES = 4
"""Faces per patch of a line: few enough to be culled closely, enough to make culling cheap."""

PLANAR_M = 1e-3
"""Four corners this close to one plane are drawn as one face."""

_EMPTY_BOUNDS = (math.inf, -math.inf, math.inf, -math.inf, math.inf, -math.inf)

Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


class Ground(NamedTuple):
    """F faces over V corners in P patches and L layers; patches lie in layer order.

    Attributes:
        x_m: (V,) float64, map frame.
        y_m: (V,) float64.
        z_m: (V,) float64.
        faces: (F, 4) int32 corners of each face; triangles repeat the last. The corners of a
            ribbon are start left, start right, end right, end left.
        patches: (P, 4) int32 first and end corner, first and end face.
        spheres_m: (P, 4) float64 centre and radius of a sphere around the patch.
        heights_m: (P, 2) float64 least and largest height.
        largest_patch: Corners of the largest patch.
        layers: (P,) uint8 index into the following.
        filled: (L,) uint8, 1 for areas (one patch is one area), 0 for ribbons.
        codes: (L,) uint8 class codes.
        min_px: (L,) float64 minimum width of ribbons in pixels, 0 for areas.
        colors: (L, 3) uint8 RGB before the depth cue.
        fades: (L,) uint8 depth cue, a `FADE_` constant of the styles.
    """

    x_m: FloatArray
    y_m: FloatArray
    z_m: FloatArray
    faces: Int32
    patches: Int32
    spheres_m: FloatArray
    heights_m: FloatArray
    largest_patch: int
    layers: UInt8
    filled: UInt8
    codes: UInt8
    min_px: FloatArray
    colors: UInt8
    fades: UInt8


def build_ground(lines: Shapes, areas: Shapes, style: Style) -> Ground:
    """Builds what `style` draws of a map.

    Lines of fewer than two distinct points and areas of fewer than three are left out.

    Args:
        lines: Polylines, `LineKind` codes.
        areas: Polygons, `PolygonKind` codes; concave or not, of either winding.
        style: See `rap_raster.styles.load_style`.
    """
    look = style.ground
    return Ground(
        *_build(
            writable(lines.points_m, np.float64),
            writable(lines.offsets, np.int32),
            writable(lines.kinds, np.uint8),
            writable(areas.points_m, np.float64),
            writable(areas.offsets, np.int32),
            writable(areas.kinds, np.uint8),
            look.codes,
            look.of_areas,
            look.filled,
            0.5 * look.widths_m,
        ),
        filled=look.filled,
        codes=look.codes,
        min_px=look.min_px,
        colors=look.colors,
        fades=look.fades,
    )


@helper
def _normal(points: FloatArray, first: int, second: int) -> tuple[float, float, float]:
    """Returns the left normal of a segment in the xy plane and its length."""
    dx = points[second, 0] - points[first, 0]
    dy = points[second, 1] - points[first, 1]
    length = math.sqrt(dx * dx + dy * dy)
    if length == 0.0:
        return 0.0, 0.0, 0.0
    return -dy / length, dx / length, length


@helper
def _mitre(
    before: tuple[float, float, float], after: tuple[float, float, float], half_width_m: float
) -> tuple[float, float, bool]:
    """Returns the xy offset from a vertex to the ribbon's left side, and if there is a mitre."""
    x, y = before[0] + after[0], before[1] + after[1]
    # |before + after| = 2 cos(half of the bend), and the mitre is half_width / cos(half bend).
    squared = x * x + y * y
    if squared * MITRE_LIMIT * MITRE_LIMIT < 4.0:
        return 0.0, 0.0, False
    reach = 2.0 * half_width_m / squared
    return x * reach, y * reach, True


@helper
def _distinct(points: FloatArray, start: int, stop: int, closed: bool, kept: Int32) -> int:
    """Lists the points that differ in xy from the one before; returns how many."""
    count = 0
    for i in range(start, stop):
        if (
            count == 0
            or points[i, 0] != points[kept[count - 1], 0]
            or points[i, 1] != points[kept[count - 1], 1]
        ):
            kept[count] = i
            count += 1
    if closed and count > 1:
        first, last = kept[0], kept[count - 1]
        if points[first, 0] == points[last, 0] and points[first, 1] == points[last, 1]:
            count -= 1
    return count


@helper
def _put_pair(
    points: FloatArray, at: int, side_x: float, side_y: float,
    corners: tuple[FloatArray, FloatArray, FloatArray], corner: int,
) -> None:  # fmt: skip
    """Writes the left and the right corner of a ribbon at a point."""
    x, y, z = corners
    left, right = np.uintp(corner), np.uintp(corner + 1)
    x[left], y[left], z[left] = points[at, 0] + side_x, points[at, 1] + side_y, points[at, 2]
    x[right], y[right], z[right] = points[at, 0] - side_x, points[at, 1] - side_y, points[at, 2]


@helper
def _ribbon(
    points: FloatArray, kept: Int32, count: int, closed: bool, half_width_m: float,
    corners: tuple[FloatArray, FloatArray, FloatArray], corner: int, faces: Int32,
) -> tuple[int, int]:  # fmt: skip
    """Writes the corners and faces of a line; returns the next free corner and how many faces.

    Segments share the corners of their mitre; where there is none, each has corners of its own.
    """
    segments = count if closed else count - 1
    here, there = kept[0], kept[1]
    normal = _normal(points, here, there)
    side_x, side_y, mitred = 0.0, 0.0, False
    if closed:
        last = _normal(points, kept[count - 1], here)
        side_x, side_y, mitred = _mitre(last, normal, half_width_m)
    if not mitred:
        side_x, side_y = half_width_m * normal[0], half_width_m * normal[1]
    _put_pair(points, here, side_x, side_y, corners, corner)
    for i in range(segments):
        start = corner
        following = normal
        mitred = closed or i + 1 < segments
        if mitred:
            second = i + 2 if i + 2 < count else i + 2 - count
            following = _normal(points, there, kept[second])
            side_x, side_y, mitred = _mitre(normal, following, half_width_m)
        if not mitred:
            side_x, side_y = half_width_m * normal[0], half_width_m * normal[1]
        corner += 2
        _put_pair(points, there, side_x, side_y, corners, corner)
        faces[i, 0], faces[i, 1], faces[i, 2], faces[i, 3] = start, start + 1, corner + 1, corner
        if i + 1 < segments:
            if not mitred:
                corner += 2
                side_x, side_y = half_width_m * following[0], half_width_m * following[1]
                _put_pair(points, there, side_x, side_y, corners, corner)
            normal = following
            there = kept[i + 2 if i + 2 < count else i + 2 - count]
    return corner + 2, segments


@helper
def _turn(points: FloatArray, a: int, b: int, c: int) -> float:
    """Returns twice the signed area of a triangle in the xy plane."""
    twice_area: float = (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1]) - (
        points[b, 1] - points[a, 1]
    ) * (points[c, 0] - points[a, 0])
    return twice_area


@helper
def _is_ear(points: FloatArray, ring: Int32, following: Int32, before: int, i: int) -> bool:
    """True if the corner at `i` can be cut off: convex, with no other vertex inside."""
    after = following[i]
    a, b, c = ring[before], ring[i], ring[after]
    if _turn(points, a, b, c) <= 0.0:
        return False
    other = following[after]
    while other != before:
        p = ring[other]
        if (
            _turn(points, a, b, p) >= 0.0
            and _turn(points, b, c, p) >= 0.0
            and _turn(points, c, a, p) >= 0.0
            and not (points[p, 0] == points[a, 0] and points[p, 1] == points[a, 1])
            and not (points[p, 0] == points[c, 0] and points[p, 1] == points[c, 1])
        ):
            return False
        other = following[other]
    return True


@helper
def _ear_cost(points: FloatArray, ring: Int32, following: Int32, before: int, i: int) -> float:
    """Returns the squared length of the cut, or infinity if there is no ear at `i`.

    Cutting short diagonals first keeps triangles local, so that they follow a sloping strip.
    """
    if not _is_ear(points, ring, following, before, i):
        return math.inf
    a, c = ring[before], ring[following[i]]
    cut: float = (points[a, 0] - points[c, 0]) ** 2 + (points[a, 1] - points[c, 1]) ** 2
    return cut


@helper
def _is_one_face(points: FloatArray, ring: Int32) -> bool:
    """True if a counter-clockwise ring of four corners is convex and planar."""
    for i in range(4):
        if _turn(points, ring[i], ring[(i + 1) % 4], ring[(i + 2) % 4]) <= 0.0:
            return False
    # Height of the last corner over the plane of the others, by the areas they span in xy.
    area = _turn(points, ring[0], ring[1], ring[2])
    u = _turn(points, ring[0], ring[3], ring[2]) / area
    v = _turn(points, ring[0], ring[1], ring[3]) / area
    z0 = points[ring[0], 2]
    plane_z = z0 + u * (points[ring[1], 2] - z0) + v * (points[ring[2], 2] - z0)
    return bool(abs(plane_z - points[ring[3], 2]) <= PLANAR_M)


@helper
def _triangulate(points: FloatArray, ring: Int32, count: int, at: int, faces: Int32) -> int:
    """Cuts a counter-clockwise ring into triangles by ear clipping; returns how many.

    A ring that crosses itself runs out of ears; what is left of it is then cut anywhere, so that
    the result always ends and roughly covers the shape.
    """
    following = np.empty(count, np.int32)
    preceding = np.empty(count, np.int32)
    cost = np.empty(count, np.float64)
    for i in range(count):
        following[i] = (i + 1) % count
        preceding[i] = (i - 1) % count
    for i in range(count):
        cost[i] = _ear_cost(points, ring, following, preceding[i], i)
    written = 0
    current = 0
    for remaining in range(count, 2, -1):
        best = current
        i = following[current]
        for _ in range(remaining - 1):
            if cost[i] < cost[best]:
                best = i
            i = following[i]
        before, after = preceding[best], following[best]
        if _turn(points, ring[before], ring[best], ring[after]) > 0.0:
            faces[written, 0] = at + before
            faces[written, 1] = at + best
            faces[written, 2] = faces[written, 3] = at + after
            written += 1
        following[before] = after
        preceding[after] = before
        cost[before] = _ear_cost(points, ring, following, preceding[before], before)
        cost[after] = _ear_cost(points, ring, following, before, after)
        current = after
    return written


@helper
def _area(
    points: FloatArray,
    ring: Int32,
    count: int,
    corners: tuple[FloatArray, FloatArray, FloatArray],
    at: int,
    faces: Int32,
) -> int:
    """Writes the corners and faces of a polygon; returns how many faces."""
    doubled = 0.0
    for i in range(1, count - 1):
        doubled += _turn(points, ring[0], ring[i], ring[i + 1])
    if doubled < 0.0:
        ring[:count] = ring[:count][::-1].copy()
    for i in range(count):
        corners[0][at + i] = points[ring[i], 0]
        corners[1][at + i] = points[ring[i], 1]
        corners[2][at + i] = points[ring[i], 2]
    if count == 4 and _is_one_face(points, ring):
        for i in range(4):
            faces[0, i] = at + i
        return 1
    return _triangulate(points, ring, count, at, faces)


@helper
def _room(
    line_offsets: Int32, line_kinds: UInt8, area_offsets: Int32, area_kinds: UInt8,
    codes: UInt8, of_areas: UInt8, filled: UInt8,
) -> tuple[int, int, int]:  # fmt: skip
    """Returns how many corners, faces and patches there will be at the most."""
    corners = faces = patches = 0
    for layer in range(len(codes)):
        offsets = area_offsets if of_areas[layer] else line_offsets
        kinds = area_kinds if of_areas[layer] else line_kinds
        for shape in range(len(kinds)):
            if kinds[shape] == codes[layer]:
                count = offsets[shape + 1] - offsets[shape]
                corners += count if filled[layer] else 4 * count
                faces += count
                patches += 1 if filled[layer] else count // PATCH_FACES + 1
    return corners, faces, patches


@helper
def _bound(
    corners: tuple[FloatArray, FloatArray, FloatArray], patch: Int32, sphere: FloatArray,
    heights: FloatArray,
) -> None:  # fmt: skip
    """Writes the sphere around a patch's bounding box and its heights."""
    xs, ys, zs = corners
    left, right, near, far, low, high = _EMPTY_BOUNDS
    for i in range(np.uintp(patch[0]), np.uintp(patch[1])):
        left, right = min(left, xs[i]), max(right, xs[i])
        near, far = min(near, ys[i]), max(far, ys[i])
        low, high = min(low, zs[i]), max(high, zs[i])
    sphere[0], sphere[1], sphere[2] = 0.5 * (left + right), 0.5 * (near + far), 0.5 * (low + high)
    dx, dy, dz = right - left, far - near, high - low
    sphere[3] = 0.5 * math.sqrt(dx * dx + dy * dy + dz * dz)
    heights[0], heights[1] = low, high


@helper
def _add_patches(faces: Int32, first: int, last: int, patches: Int32, patch: int) -> int:
    """Groups faces first .. last of a ribbon into patches; returns how many there are then."""
    for start in range(first, last, PATCH_FACES):
        end = min(start + PATCH_FACES, last)
        patches[patch, 0], patches[patch, 1] = faces[start, 0], faces[end - 1, 2] + 1
        patches[patch, 2], patches[patch, 3] = start, end
        patch += 1
    return patch


@helper
def _measure(
    corners: tuple[FloatArray, FloatArray, FloatArray], patches: Int32
) -> tuple[FloatArray, FloatArray, int]:
    """Returns the spheres and heights of all patches, and the corners of the largest."""
    spheres, heights = np.empty((len(patches), 4)), np.empty((len(patches), 2))
    largest = 0
    for i in range(len(patches)):
        largest = max(largest, patches[i, 1] - patches[i, 0])
        _bound(corners, patches[i], spheres[i], heights[i])
    return spheres, heights, largest


@kernel
def _build(
    line_points: FloatArray, line_offsets: Int32, line_kinds: UInt8,
    area_points: FloatArray, area_offsets: Int32, area_kinds: UInt8,
    codes: UInt8, of_areas: UInt8, filled: UInt8, half_widths_m: FloatArray,
) -> tuple[
    FloatArray, FloatArray, FloatArray, Int32, Int32, FloatArray, FloatArray, int, UInt8
]:  # fmt: skip
    """Builds the arrays of `Ground`, layer by layer."""
    room = _room(line_offsets, line_kinds, area_offsets, area_kinds, codes, of_areas, filled)
    corners = (np.empty(room[0]), np.empty(room[0]), np.empty(room[0]))
    faces = np.empty((room[1], 4), np.int32)
    patches = np.empty((room[2], 4), np.int32)
    layers = np.empty(room[2], np.uint8)
    kept = np.empty(max(len(line_points), len(area_points)), np.int32)
    corner = face = patch = 0
    for layer in range(len(codes)):
        is_area = of_areas[layer] != 0
        points = area_points if is_area else line_points
        offsets = area_offsets if is_area else line_offsets
        kinds = area_kinds if is_area else line_kinds
        for shape in range(len(kinds)):
            if kinds[shape] != codes[layer]:
                continue
            count = _distinct(points, offsets[shape], offsets[shape + 1], is_area, kept)
            if filled[layer] and count >= 3:
                added = _area(points, kept, count, corners, corner, faces[face:])
                if added:
                    patches[patch, 0], patches[patch, 1] = corner, corner + count
                    patches[patch, 2], patches[patch, 3] = face, face + added
                    layers[patch] = layer
                    corner, face, patch = corner + count, face + added, patch + 1
            elif not filled[layer] and count >= 2:
                corner, added = _ribbon(
                    points,
                    kept,
                    count,
                    is_area,
                    half_widths_m[layer],
                    corners,
                    corner,
                    faces[face:],
                )
                end = _add_patches(faces, face, face + added, patches, patch)
                layers[patch:end] = layer
                face, patch = face + added, end
    spheres, heights, largest = _measure(corners, patches[:patch])
    return (
        corners[0][:corner],
        corners[1][:corner],
        corners[2][:corner],
        faces[:face],
        patches[:patch],
        spheres,
        heights,
        largest,
        layers[:patch],
    )
