"""Faces to image polygons: culling, projection, clipping, minimum widths, lenses.

Everything in view becomes a primitive (one look, one plane) with one polygon or, where it has to
be cut up, several. Ground comes first, in layer order; solids follow in painting order.

- Corners are transformed once per patch; a patch or a solid outside the view costs one test.
- Faces are clipped to the near plane and the far limit where they cross them, and nowhere else.
- Through a lens, straight edges are bent: they are halved until each piece deviates from the
  curve that the lens makes of it by less than `CHORD_PX`.

Kernels here keep arrays in local variables and hand scalars to each other: numba counts references
of every array that it passes on, which costs more than the arithmetic of a face.
"""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rap_raster.camera import NEAR_M
from rap_raster.compiled import helper, inlined
from rap_raster.frames import FloatArray
from rap_raster.ground import Ground
from rap_raster.lens import bend
from rap_raster.solids import Solids, local_offset
from rap_raster.styles import FADE_PRIMITIVE

FAR_M = 120.0
"""Nothing farther than this along the optical axis is drawn (design contract)."""

SINK_M = 0.2
"""A later primitive hides ground unless it lies deeper than this below the ground's surface.

Heights of maps and of boxes disagree by about a decimetre in real logs; without the allowance the
road would swallow the feet of vehicles, and equal layers would flicker.
"""

SOLID_LAYER = 255
"""Layer of boxes and lights, above all layers of the ground."""

CHORD_PX = 0.1
"""Largest deviation of a drawn edge from the curve that the lens makes of it (contract: 1 px)."""

LONGEST_CHORD_PX = 64.0
"""Longer pieces are halved unseen: an S-shaped curve can meet the middle of its chord."""

SHORT_CHORD = 0.25
"""Chords of a squared length below this times the focal length, in pixels, are straight enough.

An edge bends with a radius of about the focal length, so that its arrow is 1/32 px there.
"""

MAX_HALVINGS = 12
"""An edge from the axis to 90 degrees needs some ten; what is finer than that is not visible."""

SIDE_MARGIN = 0.01
"""Before they are bent, faces are cut to the view, a little (normalised) outside of it."""

MAX_CORNERS = 12
"""A convex quad cut by near plane, far limit and four sides has ten corners at the most."""

Quad = tuple[float, float, float, float]
"""One coordinate of four corners."""

FACE_POINTS = 2 * MAX_CORNERS
"""Points that a face may need without a lens: two polygons of a bow tie, each clipped."""

_1, _2, _3 = np.uintp(1), np.uintp(2), np.uintp(3)

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]

_FACES = np.array(
    # Signs of length, width and height for the corners of each face, counter-clockwise seen from
    # outside, in the order of `styles.FACES`.
    [
        [[1, -1, -1], [1, 1, -1], [1, 1, 1], [1, -1, 1]],
        [[-1, 1, -1], [-1, -1, -1], [-1, -1, 1], [-1, 1, 1]],
        [[1, 1, -1], [-1, 1, -1], [-1, 1, 1], [1, 1, 1]],
        [[-1, -1, -1], [1, -1, -1], [1, -1, 1], [-1, -1, 1]],
        [[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]],
        [[-1, 1, -1], [1, 1, -1], [1, -1, -1], [-1, -1, -1]],
    ],
    np.float64,
)


class View(NamedTuple):
    """A camera as the kernels want it.

    Attributes:
        camera_from_map: (3, 4) float64 rigid transform.
        pinhole: fx, fy, cx, cy in pixels.
        bounds: Least and largest x, least and largest y of the normalised rays.
        px: Image pixels per pixel of a style (2 when supersampling).
        model: Lens model of `lens.bend`, 0 for a pinhole.
        coeffs: (9,) float64 lens coefficients and range, see `lens.bend`.
    """

    camera_from_map: FloatArray
    pinhole: Quad
    bounds: Quad
    px: float
    model: int
    coeffs: FloatArray


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
def view_sides(view: View, margin: float) -> FloatArray:
    """Returns the (4, 2) inward normals of the view's sides: left, right (x, z), top, bottom.

    Each side is a plane through the camera centre, so the tests also hold behind the camera.
    """
    sides = np.empty((4, 2))
    for i in range(4):
        sign = 1.0 if i % 2 == 0 else -1.0
        slope = view.bounds[i] - sign * margin
        length = math.sqrt(1.0 + slope * slope)
        sides[i, 0], sides[i, 1] = sign / length, -sign * slope / length
    return sides


@helper
def _sphere_outside(sides: FloatArray, x: float, y: float, z: float, radius: float) -> bool:
    """True if a camera-space sphere lies wholly outside the view."""
    return (
        z + radius < NEAR_M
        or z - radius > FAR_M
        or sides[0, 0] * x + sides[0, 1] * z < -radius
        or sides[1, 0] * x + sides[1, 1] * z < -radius
        or sides[2, 0] * y + sides[2, 1] * z < -radius
        or sides[3, 0] * y + sides[3, 1] * z < -radius
    )


@helper
def _fade(depth_m: float) -> float:
    """Returns the depth cue: 1 at the camera, falling to 0 at the far limit."""
    return (FAR_M - min(max(depth_m, 0.0), FAR_M)) / FAR_M


@helper
def _quad(values: FloatArray) -> Quad:
    return values[0], values[1], values[2], values[3]


@helper
def _to_pixel(
    model: int, coeffs: FloatArray, pinhole: Quad, x: float, y: float
) -> tuple[float, float]:
    """Returns the image point of a normalised ray."""
    if model:
        x, y = bend(model, coeffs, x, y)
    return pinhole[0] * x + pinhole[2], pinhole[1] * y + pinhole[3]


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


@helper
def _add_quad(
    us: FloatArray, vs: FloatArray, starts: Int32, owners: Int32, bent: UInt8,
    point: int, polygon: int, owner: int, least_px: float, u: Quad, v: Quad,
) -> int:  # fmt: skip
    """Appends four image points, a ribbon widened, as one convex polygon or as two triangles.

    Returns:
        How many polygons.
    """
    if least_px > 0.0:
        u, v = _widened_quad(u, v, least_px)
    (u0, u1, u2, u3), (v0, v1, v2, v3) = u, v
    us[point], us[point + 1], us[point + 2], us[point + 3] = u0, u1, u2, u3
    vs[point], vs[point + 1], vs[point + 2], vs[point + 3] = v0, v1, v2, v3
    owners[polygon], bent[polygon] = owner, 0
    starts[polygon + 1] = point + 4
    if _is_convex_quad(u, v):
        return 1
    us[point + 3], us[point + 4], us[point + 5] = u0, u2, u3
    vs[point + 3], vs[point + 4], vs[point + 5] = v0, v2, v3
    owners[polygon + 1], bent[polygon + 1] = owner, 0
    starts[polygon + 1], starts[polygon + 2] = point + 3, point + 6
    return 2


@helper
def _chord_fits(
    model: int, coeffs: FloatArray, pinhole: Quad,
    ax: float, ay: float, az: float, bx: float, by: float, bz: float,
    au: float, av: float, bu: float, bv: float,
) -> bool:  # fmt: skip
    """True if the straight line between two image points is the lens image of the edge a, b."""
    du, dv = bu - au, bv - av
    squared = du * du + dv * dv
    if squared <= SHORT_CHORD * pinhole[0]:
        return True
    if squared > LONGEST_CHORD_PX * LONGEST_CHORD_PX:
        return False
    u, v = _to_pixel(model, coeffs, pinhole, (ax + bx) / (az + bz), (ay + by) / (az + bz))
    # The middle in space is not the middle in the image: measure the distance to the chord.
    across = (u - au) * dv - (v - av) * du
    return across * across <= CHORD_PX * CHORD_PX * squared


@helper
def _is_straight(
    model: int, coeffs: FloatArray, pinhole: Quad, x: Quad, y: Quad, z: Quad, u: Quad, v: Quad
) -> bool:
    """True if none of the four edges of a projected face needs to be bent."""
    if model == 0:
        return True
    (x0, x1, x2, x3), (y0, y1, y2, y3), (z0, z1, z2, z3) = x, y, z
    (u0, u1, u2, u3), (v0, v1, v2, v3) = u, v
    lens = (model, coeffs, pinhole)
    return (
        _chord_fits(*lens, x0, y0, z0, x1, y1, z1, u0, v0, u1, v1)
        and _chord_fits(*lens, x1, y1, z1, x2, y2, z2, u1, v1, u2, v2)
        and _chord_fits(*lens, x2, y2, z2, x3, y3, z3, u2, v2, u3, v3)
        and _chord_fits(*lens, x3, y3, z3, x0, y0, z0, u3, v3, u0, v0)
    )


@helper
def _next_piece(piece: int, halvings: int, fits: bool) -> tuple[int, int]:
    """Walks over the pieces of 0..1: halves one that does not fit, else goes on to the next.

    Piece k of level n is k / 2^n .. (k + 1) / 2^n. The walk ends with piece 1 of level 0.
    """
    if not fits and halvings < MAX_HALVINGS:
        return 2 * piece, halvings + 1
    piece += 1
    while halvings > 0 and piece % 2 == 0:
        piece, halvings = piece // 2, halvings - 1
    return piece, halvings


@helper
def _bend_edge(
    view: View, a: FloatArray, b: FloatArray, us: FloatArray, vs: FloatArray, count: int
) -> int:
    """Appends the lens image of the edge from a to b, without its end; returns the new count."""
    dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    piece, halvings = 0, 0
    while halvings > 0 or piece == 0:
        share = 0.5**halvings
        s, t = piece * share, (piece + 1) * share
        sx, sy, sz = a[0] + s * dx, a[1] + s * dy, a[2] + s * dz
        tx, ty, tz = a[0] + t * dx, a[1] + t * dy, a[2] + t * dz
        su, sv = _to_pixel(view.model, view.coeffs, view.pinhole, sx / sz, sy / sz)
        tu, tv = _to_pixel(view.model, view.coeffs, view.pinhole, tx / tz, ty / tz)
        fits = _chord_fits(
            view.model, view.coeffs, view.pinhole, sx, sy, sz, tx, ty, tz, su, sv, tu, tv
        )
        if fits or halvings == MAX_HALVINGS:
            if count < len(us):
                us[count], vs[count] = su, sv
            count += 1
        piece, halvings = _next_piece(piece, halvings, fits)
    return count


@helper
def _outline(
    view: View, points: FloatArray, count: int, us: FloatArray, vs: FloatArray, first: int
) -> int:
    """Appends the lens image of a face; returns where it ends, beyond the arrays if it is cut."""
    written = first
    for i in range(count):
        a, b = points[:, i].copy(), points[:, (i + 1) % count].copy()
        # The same pieces from either side, so that neighbours share them exactly.
        if a[0] < b[0] or (a[0] == b[0] and (a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]))):
            written = _bend_edge(view, a, b, us, vs, written)
            continue
        start = written
        written = _bend_edge(view, b, a, us, vs, written)
        if written > len(us):
            continue
        # Turned around: begin with a, and leave out b, which the next edge brings.
        for k in range((written - start - 1) // 2):
            i0, i1 = start + 1 + k, written - 1 - k
            us[i0], us[i1] = us[i1], us[i0]
            vs[i0], vs[i1] = vs[i1], vs[i0]
        us[start], vs[start] = _to_pixel(
            view.model, view.coeffs, view.pinhole, a[0] / a[2], a[1] / a[2]
        )
    return written


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
        x, y, z = _quad(part[0]), _quad(part[1]), _quad(part[2])
        fits = _is_beside(view, x, y, z)
        if not fits:
            for i in range(4):
                u[i], v[i] = _to_pixel(*lens, x[i] / z[i], y[i] / z[i])
            fits = _chord_fits(
                *lens, x[0], y[0], z[0], x[3], y[3], z[3], u[0], v[0], u[3], v[3]
            ) and _chord_fits(*lens, x[1], y[1], z[1], x[2], y[2], z[2], u[1], v[1], u[2], v[2])
            if fits or halvings == MAX_HALVINGS:
                added = 1
                if point + FACE_POINTS <= len(polygons.u) and polygon + 2 <= len(polygons.owners):
                    added = _add_quad(
                        polygons.u, polygons.v, polygons.starts, polygons.owners, polygons.bent,
                        point, polygon, owner, least_px, _quad(u), _quad(v),
                    )  # fmt: skip
                polygon += added
                point += 4 if added == 1 else 6
        piece, halvings = _next_piece(piece, halvings, fits)
    return point, polygon


@helper
def _clip(
    points: FloatArray, count: int, axis: int, a: float, b: float, c: float, clipped: FloatArray
) -> int:
    """Clips (3, n) camera-space corners to the half space a p[axis] + b z >= c.

    Sutherland-Hodgman, but each corner outside is replaced where it stands in the order, so that
    a ribbon which still has four corners still has its start and end pairs at the same places.
    """
    kept = 0
    for i in range(count):
        here = a * points[axis, i] + b * points[2, i] - c
        if here >= 0.0:
            clipped[0, kept], clipped[1, kept] = points[0, i], points[1, i]
            clipped[2, kept] = points[2, i]
            kept += 1
            continue
        for j in ((i + count - 1) % count, (i + 1) % count):
            other = a * points[axis, j] + b * points[2, j] - c
            if other >= 0.0:
                # Always from the inner end, so that neighbours cut a shared edge alike.
                t = other / (other - here)
                for row in range(3):
                    clipped[row, kept] = points[row, j] + t * (points[row, i] - points[row, j])
                kept += 1
    return kept


@helper
def _clip_depth(points: FloatArray, count: int, clipped: FloatArray) -> int:
    """Clips camera-space corners to the near plane and the far limit."""
    middle = np.empty((3, MAX_CORNERS))
    count = _clip(points, count, 0, 0.0, 1.0, NEAR_M, middle)
    return _clip(middle, count, 0, 0.0, -1.0, -FAR_M, clipped)


@helper
def _clip_sides(view: View, points: FloatArray, count: int) -> int:
    """Clips camera-space corners to the sides of the view, in place."""
    sides, other = view_sides(view, SIDE_MARGIN), np.empty((3, MAX_CORNERS))
    for i in range(0, 4, 2):
        count = _clip(points, count, i // 2, sides[i, 0], sides[i, 1], 0.0, other)
        count = _clip(other, count, i // 2, sides[i + 1, 0], sides[i + 1, 1], 0.0, points)
    return count


@helper
def _is_beside(view: View, x: Quad, y: Quad, z: Quad) -> bool:
    """True if four corners all lie beyond one side of the view."""
    sides = view_sides(view, SIDE_MARGIN)
    common = 15
    for i in range(4):
        beyond = 0
        for side in range(4):
            across = x[i] if side < 2 else y[i]
            beyond |= int(sides[side, 0] * across + sides[side, 1] * z[i] < 0.0) << side
        common &= beyond
    return common != 0


@helper
def _is_convex(points: FloatArray) -> bool:
    """True if (3, 4) corners turn the same way all around, seen along their normal."""
    nx, ny, nz, _ = _plane(_quad(points[0]), _quad(points[1]), _quad(points[2]))
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
    count = _clip_depth(points, count, clipped)
    is_ribbon = least_px > 0.0 and count == 4
    if view.model and not is_ribbon:
        count = _clip_sides(view, clipped, count)
    if count < 3:
        return point, polygon
    for i in range(count):
        x, y = clipped[0, i] / clipped[2, i], clipped[1, i] / clipped[2, i]
        u[i], v[i] = _to_pixel(view.model, view.coeffs, view.pinhole, x, y)
    us, vs = polygons.u, polygons.v
    straight = across = True
    if view.model:
        for i in range(count):
            j = (i + 1) % count
            fits = _chord_fits(
                view.model, view.coeffs, view.pinhole,
                clipped[0, i], clipped[1, i], clipped[2, i],
                clipped[0, j], clipped[1, j], clipped[2, j], u[i], v[i], u[j], v[j],
            )  # fmt: skip
            straight &= fits
            across &= fits or i % 2 == 1  # edges 0 and 2 of a ribbon lie across it
    if is_ribbon and across and not straight:
        return _add_bent_ribbon(view, clipped, least_px, polygons, point, polygon, owner)
    if is_ribbon and not straight:
        count = _clip_sides(view, clipped, count)
        if count < 3:
            return point, polygon
    if point + FACE_POINTS > len(us) or polygon + 2 > len(polygons.owners):
        return point + FACE_POINTS, polygon + 2
    if count == 4 and straight:
        added = _add_quad(
            us, vs, polygons.starts, polygons.owners, polygons.bent, point, polygon, owner,
            least_px, _quad(u), _quad(v),
        )  # fmt: skip
        return point + (4 if added == 1 else 6), polygon + added
    end = point + count
    if straight:
        us[point:end], vs[point:end] = u[:count], v[:count]
    else:
        end = _outline(view, clipped, count, us, vs, point)
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
        if not _sphere_outside(sides, x, y, z, spheres[p, 3]):
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
            cu[k], cv[k] = _to_pixel(model, coeffs, pinhole, x / z, y / z)


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
def _write_quad(
    us: FloatArray, vs: FloatArray, starts: Int32, owners: Int32, bent: UInt8,
    point: int, polygon: int, owner: int, u: Quad, v: Quad,
) -> None:  # fmt: skip
    """Writes a convex polygon of four points."""
    at, number = np.uintp(point), np.uintp(polygon)
    us[at], us[at + _1], us[at + _2], us[at + _3] = u
    vs[at], vs[at + _1], vs[at + _2], vs[at + _3] = v
    owners[number], bent[number] = owner, 0
    starts[number + _1] = point + 4


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
def add_ground(  # noqa: PLR0912, PLR0915 - one hot loop; calls would cost more than what they do
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
        factor = 1.0
        if is_area and fade == FADE_PRIMITIVE:
            factor = _area_fade(cz, 0, end - base)
        for f in range(np.uintp(patches[p, 2]), np.uintp(patches[p, 3])):
            a, b = np.uintp(faces[f, 0] - base), np.uintp(faces[f, 1] - base)
            c, d = np.uintp(faces[f, 2] - base), np.uintp(faces[f, 3] - base)
            if outside[a] & outside[b] & outside[c] & outside[d]:
                continue
            if point + FACE_POINTS > len(us) or polygon + 2 > len(owners) or owner + 1 > len(codes):
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
            plain = not crossing and _is_straight(model, coeffs, pinhole, x, y, z, u, v)
            wide, high = u, v
            if plain and least_px > 0.0:
                wide, high = _widened_quad(u, v, least_px)
            if plain and _is_convex_quad(wide, high):
                # As `_add_quad` does it, which would cost more to call than to run.
                _write_quad(us, vs, starts, owners, bent, point, polygon, owner, wide, high)
                point, polygon = point + 4, polygon + 1
            elif plain:
                added = _add_quad(
                    us, vs, starts, owners, bent, point, polygon, owner, least_px, u, v
                )
                polygon += added
                point += 4 if added == 1 else 6
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
def _axes(view: View, solids: Solids, i: int, axes: FloatArray) -> None:
    """Writes the camera-space half axes and, last, the centre of a solid: (3, 4)."""
    m = view.camera_from_map
    cos, sin = solids.headings[i, 0], solids.headings[i, 1]
    for row in range(3):
        axes[row, 0] = (m[row, 0] * cos + m[row, 1] * sin) * solids.halves_m[i, 0]
        axes[row, 1] = (m[row, 1] * cos - m[row, 0] * sin) * solids.halves_m[i, 1]
        axes[row, 2] = m[row, 2] * solids.halves_m[i, 2]
        axes[row, 3] = (
            m[row, 0] * solids.centers_m[i, 0]
            + m[row, 1] * solids.centers_m[i, 1]
            + m[row, 2] * solids.centers_m[i, 2]
            + m[row, 3]
        )


@helper
def _face_corners(axes: FloatArray, face: int, corners: FloatArray) -> None:
    for k in range(4):
        a, b, c = _FACES[face, k, 0], _FACES[face, k, 1], _FACES[face, k, 2]
        for row in range(3):
            corners[row, k] = axes[row, 3] + a * axes[row, 0] + b * axes[row, 1] + c * axes[row, 2]


@helper
def _facing(solids: Solids, i: int, eye: FloatArray) -> int:
    """Returns the faces of a solid that look at the eye, one bit each."""
    along, across = local_offset(solids, i, eye[0], eye[1])
    up = eye[2] - solids.centers_m[i, 2]
    faces = 0
    for axis, offset in enumerate((along, across, up)):
        if offset > solids.halves_m[i, axis]:
            faces |= 1 << (2 * axis)
        elif offset < -solids.halves_m[i, axis]:
            faces |= 2 << (2 * axis)
    return faces


@helper
def _image_rect(axes: FloatArray, faces: int, rect: FloatArray) -> bool:
    """Writes the normalised image bounds of a solid's facing faces; False if there are none."""
    corners, clipped = np.empty((3, 4)), np.empty((3, MAX_CORNERS))
    rect[0] = rect[2] = math.inf
    rect[1] = rect[3] = -math.inf
    for face in range(6):
        if faces >> face & 1:
            _face_corners(axes, face, corners)
            count = _clip(corners, 4, 0, 0.0, 1.0, NEAR_M, clipped)
            for k in range(count):
                x, y = clipped[0, k] / clipped[2, k], clipped[1, k] / clipped[2, k]
                rect[0], rect[1] = min(rect[0], x), max(rect[1], x)
                rect[2], rect[3] = min(rect[2], y), max(rect[3], y)
    return bool(rect[0] < rect[1])


@helper
def visible_solids(
    view: View, solids: Solids, eye: FloatArray, seen: Int32, faces: UInt8, rects: FloatArray,
    distances: FloatArray,
) -> int:  # fmt: skip
    """Lists the solids in view, with their facing faces, image bounds and distances."""
    axes = np.empty((3, 4))
    sides = view_sides(view, 0.0)
    count = 0
    for i in range(len(solids.centers_m)):
        _axes(view, solids, i, axes)
        a, b, c = solids.halves_m[i, 0], solids.halves_m[i, 1], solids.halves_m[i, 2]
        x, y, z = axes[0, 3], axes[1, 3], axes[2, 3]
        if _sphere_outside(sides, x, y, z, math.sqrt(a * a + b * b + c * c)):
            continue
        faces[count] = _facing(solids, i, eye)
        rect = rects[count]
        if (
            _image_rect(axes, faces[count], rect)
            and rect[1] >= view.bounds[0]
            and rect[0] <= view.bounds[1]
            and rect[3] >= view.bounds[2]
            and rect[2] <= view.bounds[3]
        ):
            seen[count] = i
            distances[count] = math.sqrt(x * x + y * y + z * z)
            count += 1
    return count


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
        _axes(view, solids, i, axes)
        fade, code, instance = solids.fades[i], solids.codes[i], solids.instances[i]
        for face in range(6):
            if not facing[n] >> face & 1:
                continue
            if point + FACE_POINTS > len(us) or polygon + 2 > len(owners) or owner + 1 > len(codes):
                point, polygon, owner = point + FACE_POINTS, polygon + 2, owner + 1
                continue
            k = np.uintp(owner)
            _face_corners(axes, face, points)
            x, y, z = _quad(points[0]), _quad(points[1]), _quad(points[2])
            factor = _face_fade(z) if fade == FADE_PRIMITIVE else 1.0
            red, green, blue = looks[i, face, 0], looks[i, face, 1], looks[i, face, 2]
            _write_look(
                codes, instances, fades, colors, k, code, instance, fade, factor, red, green, blue
            )
            if with_planes:
                _write_plane(x, y, z, SOLID_LAYER, model, pinhole, planes, k)
            inside = min(z[0], z[1], z[2], z[3]) >= NEAR_M and max(z[0], z[1], z[2], z[3]) <= FAR_M
            if inside:
                u0, v0 = _to_pixel(model, coeffs, pinhole, x[0] / z[0], y[0] / z[0])
                u1, v1 = _to_pixel(model, coeffs, pinhole, x[1] / z[1], y[1] / z[1])
                u2, v2 = _to_pixel(model, coeffs, pinhole, x[2] / z[2], y[2] / z[2])
                u3, v3 = _to_pixel(model, coeffs, pinhole, x[3] / z[3], y[3] / z[3])
                u, v = (u0, u1, u2, u3), (v0, v1, v2, v3)
                inside = _is_straight(model, coeffs, pinhole, x, y, z, u, v)
            if inside:
                _write_quad(us, vs, starts, owners, bent, point, polygon, owner, u, v)
                point, polygon = point + 4, polygon + 1
            else:
                point, polygon = _add_clipped(view, points, 4, 0.0, polygons, point, polygon, owner)
            owner += 1
    polygons.counts[0], polygons.counts[1], polygons.counts[2] = point, polygon, owner
