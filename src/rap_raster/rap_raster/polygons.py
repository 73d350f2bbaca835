"""Faces to image polygons: culling, projection, clipping, minimum widths, lenses.

Everything in view becomes a primitive (one look, one plane) with one polygon or, where it has to
be cut up, several. Ground comes first, in layer order; solids follow in painting order.

- Corners are transformed once per patch; a patch or a solid outside the view costs one test.
- Faces are clipped to the near plane and the far limit where they cross them, and nowhere else.
- Through a lens, edges are bent: see `bending`.
"""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rap_raster.bending import MAX_HALVINGS, chord_fits, is_straight, next_piece, outline
from rap_raster.camera import NEAR_M
from rap_raster.compiled import helper, inlined
from rap_raster.frames import FloatArray
from rap_raster.ground import Ground
from rap_raster.projection import (
    FAR_M,
    MAX_CORNERS,
    Quad,
    View,
    clip_depth,
    clip_sides,
    is_beside,
    quad,
    sphere_outside,
    to_pixel,
)
from rap_raster.solids import Solids, face_corners, half_axes
from rap_raster.styles import FADE_PRIMITIVE

SINK_M = 0.2
"""A later primitive hides ground unless it lies deeper than this below the ground's surface.

Heights of maps and of boxes disagree by about a decimetre in real logs; without the allowance the
road would swallow the feet of vehicles, and equal layers would flicker.
"""

SOLID_LAYER = 255
"""Layer of boxes and lights, above all layers of the ground."""


FACE_POINTS = 2 * MAX_CORNERS
"""Points that a face may need without a lens: two polygons of a bow tie, each clipped."""

_1, _2, _3, _4, _5 = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4), np.uintp(5)

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


class Polygons(NamedTuple):
    """K primitives and their P polygons.

    Attributes:
        counts: (4,) int64 points, polygons, primitives, first polygon of a solid.
        u: (M,) float64 columns of all points.
        v: (M,) float64 rows.
        starts: (P + 1,) int32 first point of each polygon.
        owners: (P,) int32 its primitive.
        bent: (P,) uint8, 1 where the polygon may have any shape, 0 where it is convex.
        planes: (K, 7) float64 inverse depth a x + b y + c; its least and its largest value; what of
            it is kept for comparison with later layers, less than all for ground, see `SINK_M`;
            the layer, `SOLID_LAYER` for solids. x, y are pixels for a pinhole and normalised rays
            for a lens. Only written where planes were asked for.
        codes: (K,) uint8 class codes.
        instances: (K,) int32 box ids.
        colors: (K, 3) uint8, depth cue included unless it is per pixel.
        fades: (K,) uint8 `FADE_` constants.
    """

    counts: npt.NDArray[np.int64]
    u: FloatArray
    v: FloatArray
    starts: Int32
    owners: Int32
    bent: UInt8
    planes: FloatArray
    codes: UInt8
    instances: Int32
    colors: UInt8
    fades: UInt8


class Corners(NamedTuple):
    """Scratch: the n corners of one patch in the camera.

    Attributes:
        x: (n,) float64 camera space.
        y: (n,) float64.
        z: (n,) float64 depth.
        u: (n,) float64 column, where the corner is in front of the camera.
        v: (n,) float64 row.
        outside: (n,) uint8 a bit for the near plane, the far limit and each side of the view that
            the corner lies beyond.
    """

    x: FloatArray
    y: FloatArray
    z: FloatArray
    u: FloatArray
    v: FloatArray
    outside: UInt8


@helper
def _fade(depth_m: float) -> float:
    """Returns the depth cue: 1 at the camera, falling to 0 at the far limit."""
    return (FAR_M - min(max(depth_m, 0.0), FAR_M)) / FAR_M


@helper
def _plane(x: Quad, y: Quad, z: Quad) -> tuple[float, float, float, float]:
    """Returns normal and offset of the plane n . p = offset through four camera-space corners.

    The normal is the cross product of the diagonals: exact for planar faces and triangles, and
    the best plane of a face that is slightly twisted.
    """
    (x0, x1, x2, x3), (y0, y1, y2, y3), (z0, z1, z2, z3) = x, y, z
    ax, ay, az = x2 - x0, y2 - y0, z2 - z0
    bx, by, bz = x3 - x1, y3 - y1, z3 - z1
    nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    offset = 0.25 * (nx * (x0 + x1 + x2 + x3) + ny * (y0 + y1 + y2 + y3) + nz * (z0 + z1 + z2 + z3))
    return nx, ny, nz, offset


@helper
def _write_plane(
    x: Quad, y: Quad, z: Quad, layer: int | np.uintp, model: int, pinhole: Quad, planes: FloatArray,
    k: np.uintp,
) -> None:  # fmt: skip
    """Writes a row of `Polygons.planes`."""
    nx, ny, nz, offset = _plane(x, y, z)
    kept = 1.0
    if layer != SOLID_LAYER:
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        distance_m = abs(offset) / length if length > 0.0 else 0.0
        kept = distance_m / (distance_m + SINK_M)
    if offset == 0.0:  # seen exactly edge on
        offset = 1e-300
    a, b, c = nx / offset, ny / offset, nz / offset
    if model == 0:
        fx, fy, cx, cy = pinhole
        a, b = a / fx, b / fy
        c -= a * cx + b * cy
    nearest, farthest = min(z[0], z[1], z[2], z[3]), max(z[0], z[1], z[2], z[3])
    planes[k, 0], planes[k, 1], planes[k, 2] = a, b, c
    planes[k, 3], planes[k, 4] = 1.0 / min(farthest, FAR_M), 1.0 / max(nearest, NEAR_M)
    planes[k, 5], planes[k, 6] = kept, layer


@helper
def _widened(
    ua: float, va: float, ub: float, vb: float, nx: float, ny: float, least: float
) -> tuple[float, float, float, float]:
    """Moves two points apart, about their midpoint, to at least a width along (nx, ny)."""
    width = (ua - ub) * nx + (va - vb) * ny
    if abs(width) >= least:
        return ua, va, ub, vb
    half = 0.5 * least if width >= 0.0 else -0.5 * least
    mid_u, mid_v = 0.5 * (ua + ub), 0.5 * (va + vb)
    return mid_u + half * nx, mid_v + half * ny, mid_u - half * nx, mid_v - half * ny


@helper
def _stay_in_plane(
    us: FloatArray, vs: FloatArray, first: int, last: int, planes: FloatArray, k: np.uintp
) -> None:  # fmt: skip
    """Lets a widened ribbon stay in its plane where it was moved outwards.

    At the depth of the line itself it would hide the foot of a solid that stands beyond it.
    """
    least = planes[k, 3]
    for i in range(np.uintp(first), np.uintp(min(last, len(us)))):
        w = planes[k, 0] * us[i] + planes[k, 1] * vs[i] + planes[k, 2]
        least = min(least, max(w, 1.0 / FAR_M))
    planes[k, 3] = least


@helper
def _turn(ua: float, va: float, ub: float, vb: float, uc: float, vc: float) -> float:
    """Returns twice the signed area of an image triangle."""
    return (ub - ua) * (vc - vb) - (vb - va) * (uc - ub)


@helper
def _widened_quad(u: Quad, v: Quad, least_px: float) -> tuple[Quad, Quad]:
    """Makes a projected ribbon at least `least_px` wide, each end by itself."""
    (u0, u1, u2, u3), (v0, v1, v2, v3) = u, v
    du, dv = u2 + u3 - u0 - u1, v2 + v3 - v0 - v1
    length = math.sqrt(du * du + dv * dv)
    if length > 0.0:
        nx, ny = -dv / length, du / length
        u0, v0, u1, v1 = _widened(u0, v0, u1, v1, nx, ny, least_px)
        # The end pair is stored right, left: opposite to the start pair.
        u3, v3, u2, v2 = _widened(u3, v3, u2, v2, nx, ny, least_px)
    return (u0, u1, u2, u3), (v0, v1, v2, v3)


@helper
def _is_convex_quad(u: Quad, v: Quad) -> bool:
    """True if four image points form a convex quad, of either winding."""
    (u0, u1, u2, u3), (v0, v1, v2, v3) = u, v
    a, b = _turn(u0, v0, u1, v1, u2, v2), _turn(u1, v1, u2, v2, u3, v3)
    c, d = _turn(u2, v2, u3, v3, u0, v0), _turn(u3, v3, u0, v0, u1, v1)
    return (a >= 0.0 and b >= 0.0 and c >= 0.0 and d >= 0.0) or (
        a <= 0.0 and b <= 0.0 and c <= 0.0 and d <= 0.0
    )


@inlined
def _add_quad(
    us: FloatArray, vs: FloatArray, starts: Int32, owners: Int32, bent: UInt8,
    point: int, polygon: int, owner: int, least_px: float, u: Quad, v: Quad,
) -> int:  # fmt: skip
    """Appends four image points, a ribbon widened, as one convex polygon or as two triangles.

    Returns:
        How many points: 4 of one polygon, or 6 of two.
    """
    if least_px > 0.0:
        u, v = _widened_quad(u, v, least_px)
    at, number = np.uintp(point), np.uintp(polygon)
    us[at], us[at + _1], us[at + _2], us[at + _3] = u
    vs[at], vs[at + _1], vs[at + _2], vs[at + _3] = v
    owners[number], bent[number] = owner, 0
    starts[number + _1] = point + 4
    added = 4
    if not _is_convex_quad(u, v):
        us[at + _3], us[at + _4], us[at + _5] = u[0], u[2], u[3]
        vs[at + _3], vs[at + _4], vs[at + _5] = v[0], v[2], v[3]
        owners[number + _1], bent[number + _1] = owner, 0
        starts[number + _1], starts[number + _2] = point + 3, point + 6
        added = 6
    return added


@helper
def _add_bent_ribbon(
    view: View, points: FloatArray, least_px: float, polygons: Polygons, point: int, polygon: int,
    owner: int,
) -> tuple[int, int]:  # fmt: skip
    """Cuts a (3, 4) ribbon across until each piece is straight in the image, and appends them.

    Returns:
        How many points and polygons there are then, beyond the arrays if they are too small.
    """
    lens = (view.model, view.coeffs, view.pinhole)
    part, u, v = np.empty((3, 4)), np.empty(4), np.empty(4)
    piece, halvings = 0, 0
    while halvings > 0 or piece == 0:
        share = 0.5**halvings
        s, t = piece * share, (piece + 1) * share
        for axis in range(3):
            left, right = points[axis, 3] - points[axis, 0], points[axis, 2] - points[axis, 1]
            part[axis, 0], part[axis, 3] = points[axis, 0] + s * left, points[axis, 0] + t * left
            part[axis, 1], part[axis, 2] = points[axis, 1] + s * right, points[axis, 1] + t * right
        x, y, z = quad(part[0]), quad(part[1]), quad(part[2])
        fits = is_beside(view, x, y, z)
        if not fits:
            for i in range(4):
                u[i], v[i] = to_pixel(*lens, x[i] / z[i], y[i] / z[i])
            fits = chord_fits(
                *lens, x[0], y[0], z[0], x[3], y[3], z[3], u[0], v[0], u[3], v[3]
            ) and chord_fits(*lens, x[1], y[1], z[1], x[2], y[2], z[2], u[1], v[1], u[2], v[2])
            if fits or halvings == MAX_HALVINGS:
                added = 4
                if _has_room(polygons, point, polygon, owner):
                    added = _add_quad(
                        polygons.u, polygons.v, polygons.starts, polygons.owners, polygons.bent,
                        point, polygon, owner, least_px, quad(u), quad(v),
                    )  # fmt: skip
                point, polygon = point + added, polygon + added // 3
        piece, halvings = next_piece(piece, halvings, fits)
    return point, polygon


@helper
def _is_convex(points: FloatArray) -> bool:
    """True if (3, 4) corners turn the same way all around, seen along their normal."""
    nx, ny, nz, _ = _plane(quad(points[0]), quad(points[1]), quad(points[2]))
    for i in range(4):
        j, k = (i + 1) & 3, (i + 2) & 3
        ax, bx = points[0, j] - points[0, i], points[0, k] - points[0, j]
        ay, by = points[1, j] - points[1, i], points[1, k] - points[1, j]
        az, bz = points[2, j] - points[2, i], points[2, k] - points[2, j]
        turn = nx * (ay * bz - az * by) + ny * (az * bx - ax * bz) + nz * (ax * by - ay * bx)
        if turn < 0.0:
            return False
    return True


@helper
def _add_clipped(
    view: View, points: FloatArray, count: int, least_px: float, polygons: Polygons,
    point: int, polygon: int, owner: int,
) -> tuple[int, int]:  # fmt: skip
    """Clips a (3, 3) or (3, 4) face to near plane and far limit, projects, bends and appends it.

    Returns:
        How many points and polygons there are then, beyond the arrays if they are too small.
    """
    clipped, u, v = np.empty((3, MAX_CORNERS)), np.empty(MAX_CORNERS), np.empty(MAX_CORNERS)
    count = clip_depth(points, count, clipped)
    is_ribbon = least_px > 0.0 and count == 4
    if view.model and not is_ribbon:
        count = clip_sides(view, clipped, count)
    if count < 3:
        return point, polygon
    for i in range(count):
        x, y = clipped[0, i] / clipped[2, i], clipped[1, i] / clipped[2, i]
        u[i], v[i] = to_pixel(view.model, view.coeffs, view.pinhole, x, y)
    us, vs = polygons.u, polygons.v
    straight = across = True
    if view.model:
        for i in range(count):
            j = (i + 1) % count
            fits = chord_fits(
                view.model, view.coeffs, view.pinhole,
                clipped[0, i], clipped[1, i], clipped[2, i],
                clipped[0, j], clipped[1, j], clipped[2, j], u[i], v[i], u[j], v[j],
            )  # fmt: skip
            straight &= fits
            across &= fits or i % 2 == 1  # edges 0 and 2 of a ribbon lie across it
    if is_ribbon and across and not straight:
        return _add_bent_ribbon(view, clipped, least_px, polygons, point, polygon, owner)
    if is_ribbon and not straight:
        count = clip_sides(view, clipped, count)
        if count < 3:
            return point, polygon
    if not _has_room(polygons, point, polygon, owner):
        return point + FACE_POINTS, polygon + 2
    if count == 4 and straight:
        added = _add_quad(
            us, vs, polygons.starts, polygons.owners, polygons.bent, point, polygon, owner,
            least_px, quad(u), quad(v),
        )  # fmt: skip
        return point + added, polygon + added // 3
    end = point + count
    if straight:
        us[point:end], vs[point:end] = u[:count], v[:count]
    else:
        end = outline(view, clipped, count, us, vs, point)
    polygons.owners[polygon], polygons.bent[polygon] = owner, 0 if straight else 1
    polygons.starts[polygon + 1] = end
    return end, polygon + 1


@helper
def _add_face(
    view: View, points: FloatArray, count: int, least_px: float, polygons: Polygons,
    point: int, polygon: int, owner: int,
) -> tuple[int, int]:  # fmt: skip
    """Appends a face that is clipped or bent; a bow tie as its two triangles."""
    if count == 3 or _is_convex(points):
        return _add_clipped(view, points, count, least_px, polygons, point, polygon, owner)
    half = points[:, :3].copy()
    point, polygon = _add_clipped(view, half, 3, 0.0, polygons, point, polygon, owner)
    half[:, 1], half[:, 2] = points[:, 2], points[:, 3]
    return _add_clipped(view, half, 3, 0.0, polygons, point, polygon, owner)


@helper
def visible_patches(view: View, ground: Ground, sides: FloatArray, visible: Int32) -> int:
    """Lists the patches that reach into the view; returns how many."""
    m, spheres = view.camera_from_map, ground.spheres_m
    count = 0
    for p in range(np.uintp(len(spheres))):
        cx, cy, cz = spheres[p, 0], spheres[p, 1], spheres[p, 2]
        x = m[0, 0] * cx + m[0, 1] * cy + m[0, 2] * cz + m[0, 3]
        y = m[1, 0] * cx + m[1, 1] * cy + m[1, 2] * cz + m[1, 3]
        z = m[2, 0] * cx + m[2, 1] * cy + m[2, 2] * cz + m[2, 3]
        if not sphere_outside(sides, x, y, z, spheres[p, 3]):
            visible[np.uintp(count)] = p
            count += 1
    return count


@inlined
def _transform_patch(
    view: View, ground: Ground, sides: FloatArray, first: int, last: int, corners: Corners
) -> None:
    """Brings the corners of one patch into the camera and the image."""
    model, coeffs, pinhole, m = view.model, view.coeffs, view.pinhole, view.camera_from_map
    m00, m01, m02, m03 = m[0, 0], m[0, 1], m[0, 2], m[0, 3]
    m10, m11, m12, m13 = m[1, 0], m[1, 1], m[1, 2], m[1, 3]
    m20, m21, m22, m23 = m[2, 0], m[2, 1], m[2, 2], m[2, 3]
    left_x, left_z, right_x, right_z = sides[0, 0], sides[0, 1], sides[1, 0], sides[1, 1]
    top_y, top_z, low_y, low_z = sides[2, 0], sides[2, 1], sides[3, 0], sides[3, 1]
    fx, fy, center_u, center_v = pinhole
    xs, ys, zs = ground.x_m, ground.y_m, ground.z_m
    cx, cy, cz, cu, cv = corners.x, corners.y, corners.z, corners.u, corners.v
    outside = corners.outside
    for k in range(np.uintp(last - first)):
        i = np.uintp(first) + k
        x = m00 * xs[i] + m01 * ys[i] + m02 * zs[i] + m03
        y = m10 * xs[i] + m11 * ys[i] + m12 * zs[i] + m13
        z = m20 * xs[i] + m21 * ys[i] + m22 * zs[i] + m23
        cx[k], cy[k], cz[k] = x, y, z
        outside[k] = (
            (z < NEAR_M)
            | ((z > FAR_M) << 1)
            | ((left_x * x + left_z * z < 0.0) << 2)
            | ((right_x * x + right_z * z < 0.0) << 3)
            | ((top_y * y + top_z * z < 0.0) << 4)
            | ((low_y * y + low_z * z < 0.0) << 5)
        )
        if model == 0:
            w = 1.0 / z
            cu[k], cv[k] = fx * (x * w) + center_u, fy * (y * w) + center_v
        elif z >= NEAR_M:
            cu[k], cv[k] = to_pixel(model, coeffs, pinhole, x / z, y / z)


@inlined
def _write_look(
    codes: UInt8, instances: Int32, fades: UInt8, colors: UInt8, k: np.uintp,
    code: int, instance: int, fade: int, factor: float, red: int, green: int, blue: int,
) -> None:  # fmt: skip
    """Writes what a primitive looks like; colours are cut off to whole levels, as published."""
    codes[k], instances[k], fades[k] = code, instance, fade
    f = np.float32(factor)
    colors[k, 0] = np.uint8(f * np.float32(red))
    colors[k, 1] = np.uint8(f * np.float32(green))
    colors[k, 2] = np.uint8(f * np.float32(blue))


@inlined
def _has_room(polygons: Polygons, point: int, polygon: int, owner: int) -> bool:
    """True if one more face fits into the arrays."""
    return (
        point + FACE_POINTS <= len(polygons.u)
        and polygon + 2 <= len(polygons.owners)
        and owner + 1 <= len(polygons.codes)
    )


@helper
def _face_fade(z: Quad) -> float:
    """Returns the depth cue of a face from the mean depth of its corners."""
    return 0.25 * (_fade(z[0]) + _fade(z[1]) + _fade(z[2]) + _fade(z[3]))


@helper
def _area_fade(depths_m: FloatArray, first: int, last: int) -> float:
    """Returns the depth cue of an area from the mean depth of its corners."""
    total = 0.0
    for i in range(first, last):
        total += _fade(depths_m[i])
    return total / (last - first)


@helper
def add_ground(
    view: View, ground: Ground, sides: FloatArray, visible: Int32, corners: Corners,
    with_planes: bool, polygons: Polygons,
) -> None:  # fmt: skip
    """Appends the faces of the visible patches."""
    model, coeffs, pinhole = view.model, view.coeffs, view.pinhole
    faces, patches, layers = ground.faces, ground.patches, ground.layers
    cx, cy, cz, cu, cv = corners.x, corners.y, corners.z, corners.u, corners.v
    outside = corners.outside
    us, vs, starts, owners, bent = (
        polygons.u, polygons.v, polygons.starts, polygons.owners, polygons.bent
    )  # fmt: skip
    planes, codes, instances = polygons.planes, polygons.codes, polygons.instances
    colors, fades = polygons.colors, polygons.fades
    points = np.empty((3, 4))
    point, polygon, owner = polygons.counts[0], polygons.counts[1], polygons.counts[2]
    for p in visible:
        base, end = patches[p, 0], patches[p, 1]
        _transform_patch(view, ground, sides, base, end, corners)
        layer = np.uintp(layers[p])
        fade, code = ground.fades[layer], ground.codes[layer]
        least_px, is_area = ground.min_px[layer] * view.px, ground.filled[layer] != 0
        red, green, blue = ground.colors[layer, 0], ground.colors[layer, 1], ground.colors[layer, 2]
        factor = _area_fade(cz, 0, end - base) if is_area and fade == FADE_PRIMITIVE else 1.0
        for f in range(np.uintp(patches[p, 2]), np.uintp(patches[p, 3])):
            a, b = np.uintp(faces[f, 0] - base), np.uintp(faces[f, 1] - base)
            c, d = np.uintp(faces[f, 2] - base), np.uintp(faces[f, 3] - base)
            if outside[a] & outside[b] & outside[c] & outside[d]:
                continue
            if not _has_room(polygons, point, polygon, owner):
                point, polygon, owner = point + FACE_POINTS, polygon + 2, owner + 1
                continue
            k, start = np.uintp(owner), point
            z = (cz[a], cz[b], cz[c], cz[d])
            if fade == FADE_PRIMITIVE and not is_area:
                factor = _face_fade(z)
            _write_look(codes, instances, fades, colors, k, code, 0, fade, factor, red, green, blue)
            x, y = (cx[a], cx[b], cx[c], cx[d]), (cy[a], cy[b], cy[c], cy[d])
            if with_planes:
                _write_plane(x, y, z, layer, model, pinhole, planes, k)
            u, v = (cu[a], cu[b], cu[c], cu[d]), (cv[a], cv[b], cv[c], cv[d])
            crossing = (outside[a] | outside[b] | outside[c] | outside[d]) & 3
            if not crossing and is_straight(model, coeffs, pinhole, x, y, z, u, v):
                added = _add_quad(
                    us, vs, starts, owners, bent, point, polygon, owner, least_px, u, v
                )
                point, polygon = point + added, polygon + added // 3
            else:
                for i in range(4):
                    points[0, i], points[1, i], points[2, i] = x[i], y[i], z[i]
                count = 3 if c == d else 4
                point, polygon = _add_face(
                    view, points, count, least_px, polygons, point, polygon, owner
                )
            if with_planes and model == 0 and least_px > 0.0:
                _stay_in_plane(us, vs, start, point, planes, k)
            owner += 1
    polygons.counts[0], polygons.counts[1], polygons.counts[2] = point, polygon, owner


@helper
def add_solids(
    view: View, solids: Solids, seen: Int32, facing: UInt8, order: Int32, with_planes: bool,
    polygons: Polygons,
) -> None:  # fmt: skip
    """Appends the facing faces of solids, in painting order.

    Args:
        view: The camera.
        solids: All of them.
        seen: (n,) those in view.
        facing: (n,) which of their faces look at the camera, one bit each.
        order: (n,) places in `seen`, first to last.
        with_planes: True if inverse depths are needed.
        polygons: Extended.
    """
    axes, points = np.empty((3, 4)), np.empty((3, 4))
    model, coeffs, pinhole = view.model, view.coeffs, view.pinhole
    us, vs, starts, owners, bent = (
        polygons.u, polygons.v, polygons.starts, polygons.owners, polygons.bent
    )  # fmt: skip
    codes, fades, colors = polygons.codes, polygons.fades, polygons.colors
    planes, instances = polygons.planes, polygons.instances
    looks = solids.colors
    point, polygon, owner = polygons.counts[0], polygons.counts[1], polygons.counts[2]
    polygons.counts[3] = polygon
    for n in order:
        i = seen[n]
        half_axes(view, solids, i, axes)
        fade, code, instance = solids.fades[i], solids.codes[i], solids.instances[i]
        for face in range(6):
            if not facing[n] >> face & 1:
                continue
            if not _has_room(polygons, point, polygon, owner):
                point, polygon, owner = point + FACE_POINTS, polygon + 2, owner + 1
                continue
            k = np.uintp(owner)
            face_corners(axes, face, points)
            x, y, z = quad(points[0]), quad(points[1]), quad(points[2])
            factor = _face_fade(z) if fade == FADE_PRIMITIVE else 1.0
            red, green, blue = looks[i, face, 0], looks[i, face, 1], looks[i, face, 2]
            _write_look(
                codes, instances, fades, colors, k, code, instance, fade, factor, red, green, blue
            )
            if with_planes:
                _write_plane(x, y, z, SOLID_LAYER, model, pinhole, planes, k)
            inside = min(z[0], z[1], z[2], z[3]) >= NEAR_M and max(z[0], z[1], z[2], z[3]) <= FAR_M
            if inside:
                u0, v0 = to_pixel(model, coeffs, pinhole, x[0] / z[0], y[0] / z[0])
                u1, v1 = to_pixel(model, coeffs, pinhole, x[1] / z[1], y[1] / z[1])
                u2, v2 = to_pixel(model, coeffs, pinhole, x[2] / z[2], y[2] / z[2])
                u3, v3 = to_pixel(model, coeffs, pinhole, x[3] / z[3], y[3] / z[3])
                u, v = (u0, u1, u2, u3), (v0, v1, v2, v3)
                inside = is_straight(model, coeffs, pinhole, x, y, z, u, v)
            if inside:
                added = _add_quad(us, vs, starts, owners, bent, point, polygon, owner, 0.0, u, v)
                point, polygon = point + added, polygon + added // 3
            else:
                point, polygon = _add_clipped(view, points, 4, 0.0, polygons, point, polygon, owner)
            owner += 1
    polygons.counts[0], polygons.counts[1], polygons.counts[2] = point, polygon, owner
