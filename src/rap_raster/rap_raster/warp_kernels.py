"""The rasterizer as Warp kernels: geometry to pieces, pieces to tiles, tiles to pixels.

A piece is a straight-edged polygon with one look and one plane. Without a lens it lies in the
image, in pixels. Through a lens it lies in the normalised pinhole image and is met by the ray of
each pixel, so that nothing has to be bent; only where a ribbon is narrower than its minimum width,
it is cut across and widened in the raw image, because that is where the width counts.

A piece covers a pixel centre by the even-odd rule, half open (upper and left edges inclusive), with
the arithmetic of `trapezoids`. Coordinates and edges are float64 and never fused, inverse depths
float32, as in the CPU rasterizer, whose rules for ground, solids, clipping and widths these are.

Imports Warp; only `warp_backend` imports this.
"""

# ruff: noqa: PLR0917 - kernels take flat arrays, by position.
# ruff: noqa: UP018, RUF046 - `int(0)` declares a variable that changes in a loop, `0` a constant.
# (And only with a literal: `wp.float64(_ZERO)` would let Warp 1.19 change `_ZERO` itself.) Structs
# and matrices are handed to functions by reference: a caller sees what the function changes.
# mypy: disable-error-code="no-any-return, valid-type, index"
# Warp is an untyped module to mypy; the types in here are checked when Warp compiles the kernels.

from __future__ import annotations

import warp as wp

from rap_raster import bending, camera, lens, polygons, projection, styles

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

TILE_PX = 16
"""Side of a tile: 256 pixels are one block of threads."""

MAX_CORNERS = 6
"""A quad cut by the near plane and the far limit has six corners at the most."""

RGB, CLASS, INSTANCE, DEPTH = 1, 2, 4, 8
"""Bits of the channels that `draw_pixels` writes."""

Corners = wp.types.matrix(shape=(MAX_CORNERS, 3), dtype=wp.float64)
Outline = wp.types.matrix(shape=(MAX_CORNERS, 2), dtype=wp.float64)
Rigid = wp.types.matrix(shape=(3, 4), dtype=wp.float64)
Sides = wp.types.matrix(shape=(4, 2), dtype=wp.float64)
Coefficients = wp.types.vector(length=9, dtype=wp.float64)
_Ends = wp.types.vector(length=bending.MAX_HALVINGS + 1, dtype=wp.float64)

_ZERO, _ONE = wp.constant(wp.float64(0.0)), wp.constant(wp.float64(1.0))
_QUARTER, _HALF = wp.constant(wp.float64(0.25)), wp.constant(wp.float64(0.5))
_TWO = wp.constant(wp.float64(2.0))
_HUGE = wp.constant(wp.float64(1e300))
_EDGE_ON = wp.constant(wp.float64(1e-300))
_NEAR_M = wp.constant(wp.float64(camera.NEAR_M))
_FAR_M = wp.constant(wp.float64(projection.FAR_M))
_SINK_M = wp.constant(wp.float64(polygons.SINK_M))
_CHORD2_PX2 = wp.constant(wp.float64(bending.CHORD_PX**2))
_LONGEST2_PX2 = wp.constant(wp.float64(bending.LONGEST_CHORD_PX**2))
_WIDEST_COSINE2 = wp.constant(wp.float64(bending.WIDEST_COSINE2))
_SHORT_CHORD = wp.constant(wp.float64(bending.SHORT_CHORD))
_BEYOND_SLOPE = wp.constant(wp.float64(lens.BEYOND_SLOPE))
_PER_FAR_M = wp.constant(wp.float32(1.0 / projection.FAR_M))
_SHORTEST_PART = wp.constant(wp.float64(0.5**bending.MAX_HALVINGS))
_EQUIDISTANT = wp.constant(lens.EQUIDISTANT)
_SOLID_LAYER = wp.constant(wp.uint8(polygons.SOLID_LAYER))
_FADE_PRIMITIVE = wp.constant(wp.uint8(styles.FADE_PRIMITIVE))
_FADE_PIXEL = wp.constant(wp.uint8(styles.FADE_PIXEL))


@wp.struct
class View:
    """A camera as the kernels want it.

    Attributes:
        camera_from_map: Rigid transform.
        eye: Camera position, map frame.
        pinhole: fx, fy, cx, cy in pixels.
        sampling: The same, or 1, 1, 0, 0 where pieces lie in the normalised image.
        sides: Inward normals of the view's sides, a little outside of it: left, right (x, z),
            top, bottom (y, z).
        px: Image pixels per pixel of a style (2 when supersampling).
        model: Lens family of `rap_raster.lens`, 0 for a pinhole.
        coeffs: See `rap_raster.lens.bend`.
        width: Of the image.
        height: Of the image.
        columns: Tiles in a row.
    """

    camera_from_map: Rigid
    eye: wp.vec3d
    pinhole: wp.vec4d
    sampling: wp.vec4d
    sides: Sides
    px: wp.float64
    model: wp.int32
    coeffs: Coefficients
    width: wp.int32
    height: wp.int32
    columns: wp.int32


@wp.struct
class GroundArrays:
    """`rap_raster.ground.Ground` on a device, and the patch of each face."""

    x_m: wp.array[wp.float64]
    y_m: wp.array[wp.float64]
    z_m: wp.array[wp.float64]
    faces: wp.array[wp.vec4i]
    patches: wp.array[wp.vec4i]
    spheres_m: wp.array[wp.vec4d]
    layers: wp.array[wp.uint8]
    filled: wp.array[wp.uint8]
    codes: wp.array[wp.uint8]
    min_px: wp.array[wp.float64]
    colors: wp.array[wp.vec3ub]
    fades: wp.array[wp.uint8]
    patch_of: wp.array[wp.int32]


@wp.struct
class SolidArrays:
    """`rap_raster.solids.Solids` on a device."""

    centers_m: wp.array[wp.vec3d]
    halves_m: wp.array[wp.vec3d]
    headings: wp.array[wp.vec2d]
    codes: wp.array[wp.uint8]
    instances: wp.array[wp.int32]
    colors: wp.array2d[wp.vec3ub]
    fades: wp.array[wp.uint8]


@wp.struct
class Look:
    """What a piece looks like and where it is.

    Attributes:
        plane: Inverse depth a x + b y + c over rays, or pixels for a pinhole.
        least: Its smallest value.
        most: Its largest value.
        kept: What of it is kept for comparison with later layers, see `polygons.SINK_M`.
        layer: Of the ground, or `polygons.SOLID_LAYER`.
        instance: Box id.
        code: Class code.
        color: Depth cue included unless it is per pixel.
        fade: A `FADE_` constant.
        in_raw_image: 1 where the piece lies in the raw image of a lens.
        corners: How many.
    """

    plane: wp.vec3d
    least: wp.float32
    most: wp.float32
    kept: wp.float32
    layer: wp.uint8
    instance: wp.int32
    code: wp.uint8
    color: wp.vec3ub
    fade: wp.uint8
    in_raw_image: wp.int32
    corners: wp.int32


@wp.struct
class Pieces:
    """P pieces in drawing order.

    Attributes:
        looks: (P,).
        bounds: (P,) least and largest x, least and largest y.
        edges: (P, 6) upper and lower end in y, and x = origin + y slope in between.
    """

    looks: wp.array[Look]
    bounds: wp.array[wp.vec4d]
    edges: wp.array2d[wp.vec4d]


@wp.struct
class Images:
    """What is drawn; channels that are not asked for may be empty arrays.

    Attributes:
        rgb: (H, W, 3).
        codes: (H, W).
        instances: (H, W).
        depths_m: (H, W).
    """

    rgb: wp.array3d[wp.uint8]
    codes: wp.array2d[wp.uint8]
    instances: wp.array2d[wp.int32]
    depths_m: wp.array2d[wp.float32]


@wp.func
def _fade_at(depth_m: wp.float64) -> wp.float64:
    """Returns the depth cue: 1 at the camera, falling to 0 at the far limit."""
    return (_FAR_M - wp.min(wp.max(depth_m, _ZERO), _FAR_M)) / _FAR_M


@wp.func
def _to_camera(view: View, x: wp.float64, y: wp.float64, z: wp.float64) -> wp.vec3d:
    """Returns a map point in the camera frame."""
    m = view.camera_from_map
    return wp.vec3d(
        m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3],
        m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3],
        m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3],
    )


@wp.func
def _bend(view: View, x: wp.float64, y: wp.float64) -> wp.vec2d:
    """Applies the lens model to a normalised point; `rap_raster.lens.bend` has the reasons."""
    c = view.coeffs
    radius = wp.sqrt(x * x + y * y)
    beyond = wp.vec2d(_ZERO, _ZERO)
    if radius > c[8]:
        inside = c[8] / radius
        beyond = wp.vec2d(x * (_ONE - inside), y * (_ONE - inside))
        x, y, radius = x * inside, y * inside, c[8]
    bent = wp.vec2d(x, y)
    if view.model == _EQUIDISTANT:
        if radius > _ZERO:
            theta = wp.atan(radius)
            t2 = theta * theta
            scale = _ONE + t2 * (c[0] + t2 * (c[1] + t2 * (c[2] + t2 * c[3])))
            bent = bent * (theta * scale / radius)
    else:
        r2 = radius * radius
        top = _ONE + r2 * (c[0] + r2 * (c[1] + r2 * c[4]))
        radial = top / (_ONE + r2 * (c[5] + r2 * (c[6] + r2 * c[7])))
        bent = wp.vec2d(
            x * radial + _TWO * c[2] * x * y + c[3] * (r2 + _TWO * x * x),
            y * radial + c[2] * (r2 + _TWO * y * y) + _TWO * c[3] * x * y,
        )
    return bent + _BEYOND_SLOPE * beyond


@wp.func
def _outside(view: View, p: wp.vec3d) -> int:
    """Returns a bit for near plane, far limit and each side that a camera point lies beyond."""
    bits = int(0)
    if p[2] < _NEAR_M:
        bits |= 1
    if p[2] > _FAR_M:
        bits |= 2
    for side in range(4):
        if view.sides[side, 0] * p[side // 2] + view.sides[side, 1] * p[2] < _ZERO:
            bits |= 4 << side
    return bits


@wp.func
def _is_out_of_view(view: View, corners: Corners) -> bool:
    """True if four corners all lie beyond the same limit of the view."""
    common = int(63)
    for i in range(4):
        common &= _outside(view, corners[i])
    return common != 0


@wp.func
def _normal(corners: Corners) -> wp.vec3d:
    """Returns the cross product of the diagonals: exact for planar quads and triangles."""
    return wp.cross(corners[2] - corners[0], corners[3] - corners[1])


@wp.func
def _look_of(view: View, corners: Corners, layer: wp.uint8) -> Look:
    """Returns a look with plane and depth range of four camera-space corners."""
    normal = _normal(corners)
    offset = _ZERO
    nearest, farthest = _HUGE, -_HUGE
    for i in range(4):
        offset += _QUARTER * wp.dot(normal, corners[i])
        nearest, farthest = wp.min(nearest, corners[i, 2]), wp.max(farthest, corners[i, 2])
    look = Look()
    look.kept = wp.float32(1.0)
    look.layer = layer
    if layer != _SOLID_LAYER:
        length = wp.length(normal)
        distance_m = _ZERO
        if length > _ZERO:
            distance_m = wp.abs(offset) / length
        look.kept = wp.float32(distance_m / (distance_m + _SINK_M))
    if offset == _ZERO:  # seen exactly edge on
        offset = _EDGE_ON
    a = normal[0] / offset / view.sampling[0]
    b = normal[1] / offset / view.sampling[1]
    c = normal[2] / offset - a * view.sampling[2] - b * view.sampling[3]
    look.plane = wp.vec3d(a, b, c)
    look.least = wp.float32(_ONE / wp.min(farthest, _FAR_M))
    look.most = wp.float32(_ONE / wp.max(nearest, _NEAR_M))
    return look


@wp.func
def _shaded(color: wp.vec3ub, factor: wp.float64) -> wp.vec3ub:
    """Returns a colour times the depth cue, cut off to whole levels as published."""
    f = wp.float32(factor)
    return wp.vec3ub(
        wp.uint8(f * wp.float32(color[0])),
        wp.uint8(f * wp.float32(color[1])),
        wp.uint8(f * wp.float32(color[2])),
    )


@wp.func
def _mean_fade(corners: Corners) -> wp.float64:
    """Returns the depth cue of a face from its four corners."""
    total = _ZERO
    for i in range(4):
        total += _fade_at(corners[i, 2])
    return _QUARTER * total


@wp.func
def _emit(pieces: Pieces, at: int, look: Look, points: Outline, count: int) -> int:
    """Writes one piece, unless `at` is negative; returns 1, how many that are."""
    if at >= 0:
        left, right = wp.float64(1e300), wp.float64(-1e300)
        top, bottom = wp.float64(1e300), wp.float64(-1e300)
        for i in range(count):
            left, right = wp.min(left, points[i, 0]), wp.max(right, points[i, 0])
            top, bottom = wp.min(top, points[i, 1]), wp.max(bottom, points[i, 1])
            j = (i + 1) % count
            # From the upper to the lower end, so that neighbours share an edge exactly.
            ux, uy, lx, ly = points[i, 0], points[i, 1], points[j, 0], points[j, 1]
            if uy >= ly:
                ux, uy, lx, ly = points[j, 0], points[j, 1], points[i, 0], points[i, 1]
            slope = _ZERO
            if uy < ly:
                slope = (lx - ux) / (ly - uy)
            pieces.edges[at, i] = wp.vec4d(uy, ly, ux - uy * slope, slope)
        pieces.bounds[at] = wp.vec4d(left, right, top, bottom)
        look.corners = count
        pieces.looks[at] = look
    return 1


@wp.func
def _after(at: int, count: int) -> int:
    """Returns the place that many pieces after `at`, which is negative if none are written."""
    if at < 0:
        return at
    return at + count


@wp.func
def _turn(points: Outline, i: int, j: int, k: int) -> wp.float64:
    """Returns twice the signed area of an image triangle."""
    return (points[j, 0] - points[i, 0]) * (points[k, 1] - points[j, 1]) - (
        points[j, 1] - points[i, 1]
    ) * (points[k, 0] - points[j, 0])


@wp.func
def _emit_quad(pieces: Pieces, at: int, look: Look, points: Outline) -> int:
    """Writes four image points as one convex piece or as two triangles; returns how many."""
    left, right = int(0), int(0)
    for i in range(4):
        turn = _turn(points, i, (i + 1) % 4, (i + 2) % 4)
        if turn < _ZERO:
            left += 1
        if turn > _ZERO:
            right += 1
    if left == 0 or right == 0:
        return _emit(pieces, at, look, points, 4)
    rest = Outline()
    rest[0] = points[0]
    rest[1] = points[2]
    rest[2] = points[3]
    count = _emit(pieces, at, look, points, 3)
    return count + _emit(pieces, _after(at, count), look, rest, 3)


@wp.func
def _across(points: Outline) -> wp.vec2d:
    """Returns the unit normal of a projected ribbon's centre line, or 0 if that is a point."""
    along = points[2] + points[3] - points[0] - points[1]
    length = wp.length(along)
    if length == _ZERO:
        return wp.vec2d(_ZERO, _ZERO)
    return wp.vec2d(-along[1] / length, along[0] / length)


@wp.func
def _widened_end(points: Outline, i: int, j: int, normal: wp.vec2d, least: wp.float64) -> Outline:
    """Moves two points apart, about their midpoint, to at least a width along the normal."""
    width = wp.dot(points[i] - points[j], normal)
    if wp.abs(width) < least:
        half = _HALF * least
        if width < _ZERO:
            half = -half
        middle = _HALF * (points[i] + points[j])
        points[i] = middle + half * normal
        points[j] = middle - half * normal
    return points


@wp.func
def _widened(points: Outline, least: wp.float64) -> Outline:
    """Makes a projected ribbon at least that wide, each end by itself."""
    normal = _across(points)
    if normal[0] == _ZERO and normal[1] == _ZERO:
        return points
    points = _widened_end(points, 0, 1, normal, least)
    # The end pair is stored right, left: opposite to the start pair.
    return _widened_end(points, 3, 2, normal, least)


@wp.func
def _is_wide(points: Outline, least: wp.float64) -> bool:
    """True if both ends of a projected ribbon are at least that wide."""
    normal = _across(points)
    start = wp.abs(wp.dot(points[0] - points[1], normal))
    end = wp.abs(wp.dot(points[3] - points[2], normal))
    return start >= least and end >= least


@wp.func
def _stay_in_plane(look: Look, points: Outline) -> Look:
    """Lets a widened ribbon stay in its plane where it was moved outwards.

    At the depth of the line itself it would hide the foot of a solid that stands beyond it.
    """
    least = wp.float64(look.least)
    for i in range(4):
        w = look.plane[0] * points[i, 0] + look.plane[1] * points[i, 1] + look.plane[2]
        least = wp.min(least, wp.max(w, _ONE / _FAR_M))
    look.least = wp.float32(least)
    return look


@wp.func
def _project(pinhole: wp.vec4d, corners: Corners, count: int) -> Outline:
    points = Outline()
    for i in range(count):
        w = _ONE / corners[i, 2]
        points[i] = wp.vec2d(
            pinhole[0] * (corners[i, 0] * w) + pinhole[2],
            pinhole[1] * (corners[i, 1] * w) + pinhole[3],
        )
    return points


@wp.func
def _to_raw_image(view: View, point: wp.vec3d) -> wp.vec2d:
    """Returns where the lens shows a camera-space point."""
    bent = _bend(view, point[0] / point[2], point[1] / point[2])
    return wp.vec2d(
        view.pinhole[0] * bent[0] + view.pinhole[2], view.pinhole[1] * bent[1] + view.pinhole[3]
    )


@wp.func
def _is_straight(view: View, corners: Corners, points: Outline) -> bool:
    """True if the lens bends neither side of a ribbon noticeably; see `bending.CHORD_PX`."""
    straight = bool(True)
    for i in range(2):
        a, b = 1 + 2 * i, (2 + 2 * i) % 4
        chord = points[b] - points[a]
        squared = wp.dot(chord, chord)
        first, second = wp.normalize(corners[a]), wp.normalize(corners[b])
        cosine = wp.dot(first, second)
        if squared > _LONGEST2_PX2 or cosine < _ZERO or cosine * cosine < _WIDEST_COSINE2:
            straight = False
        elif squared > _SHORT_CHORD * view.pinhole[0]:
            middle = _to_raw_image(view, first + second) - points[a]
            across = middle[0] * chord[1] - middle[1] * chord[0]
            if across * across > _CHORD2_PX2 * squared:
                straight = False
    return straight


@wp.func
def _between(corners: Corners, start: wp.float64, end: wp.float64) -> Corners:
    """Returns the part of a ribbon from one fraction of its length to another."""
    part = Corners()
    left, right = corners[3] - corners[0], corners[2] - corners[1]
    part[0] = corners[0] + start * left
    part[1] = corners[1] + start * right
    part[2] = corners[1] + end * right
    part[3] = corners[0] + end * left
    return part


@wp.func
def _emit_part(
    view: View,
    pieces: Pieces,
    at: int,
    look: Look,
    part: Corners,
    least: wp.float64,
    is_last: bool,
) -> int:
    """Writes part of a ribbon through a lens, if that is possible without cutting it.

    Returns:
        How many pieces; -1 if it has to be cut.
    """
    if _is_out_of_view(view, part):
        return 0
    points = Outline()
    for i in range(4):
        points[i] = _to_raw_image(view, part[i])
    look.in_raw_image = 0
    if _is_wide(points, least):
        return _emit_quad(pieces, at, look, _project(view.sampling, part, 4))
    if not is_last and not _is_straight(view, part, points):
        return -1
    look.in_raw_image = 1
    return _emit_quad(pieces, at, look, _widened(points, least))


@wp.func
def _emit_bent(
    view: View, pieces: Pieces, at: int, look: Look, corners: Corners, least: wp.float64
) -> int:
    """Cuts a ribbon across where the lens bends it and it has to be widened; writes the parts."""
    ends = _Ends()
    ends[0] = _ONE
    start = wp.float64(0.0)
    top, count = int(0), int(0)
    while top >= 0:
        end = ends[top]
        place = _after(at, count)
        is_last = end - start <= _SHORTEST_PART
        added = _emit_part(view, pieces, place, look, _between(corners, start, end), least, is_last)
        if added < 0:
            top += 1
            ends[top] = _HALF * (start + end)
        else:
            start = end
            count += added
            top -= 1
    return count


@wp.func
def _clip(corners: Corners, count: int, sign: wp.float64, limit: wp.float64) -> tuple[Corners, int]:
    """Clips a face to sign z >= limit; returns the corners and how many there are.

    Each corner outside is replaced where it stands in the order, so that a ribbon which still has
    four corners still has its start and end pairs at the same places.
    """
    clipped = Corners()
    kept = int(0)
    for i in range(count):
        here = sign * corners[i, 2] - limit
        if here >= _ZERO:
            clipped[kept] = corners[i]
            kept += 1
        else:
            for side in range(2):
                j = (i + 1) % count
                if side == 0:
                    j = (i + count - 1) % count
                other = sign * corners[j, 2] - limit
                if other >= _ZERO:
                    # Always from the inner end, so that neighbours cut a shared edge alike.
                    t = other / (other - here)
                    clipped[kept] = corners[j] + t * (corners[i] - corners[j])
                    kept += 1
    return clipped, kept


@wp.func
def _emit_face(
    view: View,
    pieces: Pieces,
    at: int,
    look: Look,
    corners: Corners,
    count: int,
    least_px: wp.float64,
) -> int:
    """Clips a face to near plane and far limit and writes it; returns how many pieces."""
    near, near_count = _clip(corners, count, _ONE, _NEAR_M)
    inside, inside_count = _clip(near, near_count, -_ONE, -_FAR_M)
    if inside_count < 3:
        return 0
    if inside_count == 4 and least_px > _ZERO and view.model != 0:
        return _emit_bent(view, pieces, at, look, inside, least_px)
    points = _project(view.sampling, inside, inside_count)
    if inside_count != 4:
        return _emit(pieces, at, look, points, inside_count)
    if least_px > _ZERO:
        points = _widened(points, least_px)
        look = _stay_in_plane(look, points)
    return _emit_quad(pieces, at, look, points)


@wp.func
def _is_convex(corners: Corners) -> bool:
    """True if four corners turn the same way all around, seen along their normal."""
    normal = _normal(corners)
    convex = bool(True)
    for i in range(4):
        a, b, c = corners[i], corners[(i + 1) % 4], corners[(i + 2) % 4]
        if wp.dot(normal, wp.cross(b - a, c - b)) < _ZERO:
            convex = False
    return convex


@wp.func
def _emit_ground_face(
    view: View,
    pieces: Pieces,
    at: int,
    look: Look,
    corners: Corners,
    is_triangle: bool,
    least_px: wp.float64,
) -> int:
    """Writes a face of the ground; a bow tie that has to be clipped as its two triangles."""
    crossing = int(0)
    for i in range(4):
        crossing |= _outside(view, corners[i]) & 3
    if (crossing == 0 and view.model == 0) or is_triangle or _is_convex(corners):
        return _emit_face(view, pieces, at, look, corners, 4, least_px)
    rest = Corners()
    rest[0] = corners[0]
    rest[1] = corners[2]
    rest[2] = corners[3]
    count = _emit_face(view, pieces, at, look, corners, 3, _ZERO)
    return count + _emit_face(view, pieces, _after(at, count), look, rest, 3, _ZERO)


@wp.kernel
def cull_patches(view: View, ground: GroundArrays, factors: wp.array[wp.float64]) -> None:
    """Finds the visible patches.

    Args:
        view: The camera.
        ground: P patches.
        factors: (P,) written: -1 where a patch is outside the view, else the depth cue of an area
            that has a single one, else 1.
    """
    p = wp.tid()
    sphere = ground.spheres_m[p]
    center = _to_camera(view, sphere[0], sphere[1], sphere[2])
    factor = _ONE
    if center[2] + sphere[3] < _NEAR_M or center[2] - sphere[3] > _FAR_M:
        factor = -_ONE
    for side in range(4):
        across = view.sides[side, 0] * center[side // 2] + view.sides[side, 1] * center[2]
        if across < -sphere[3]:
            factor = -_ONE
    layer = int(ground.layers[p])
    is_area = ground.filled[layer] != wp.uint8(0)
    if factor > _ZERO and is_area and ground.fades[layer] == _FADE_PRIMITIVE:
        patch = ground.patches[p]
        total = wp.float64(0.0)
        for i in range(patch[0], patch[1]):
            total += _fade_at(_to_camera(view, ground.x_m[i], ground.y_m[i], ground.z_m[i])[2])
        factor = total / wp.float64(patch[1] - patch[0])
    factors[p] = factor


@wp.kernel
def ground_pieces(
    view: View,
    ground: GroundArrays,
    factors: wp.array[wp.float64],
    writing: bool,
    counts: wp.array[wp.int32],
    starts: wp.array[wp.int32],
    pieces: Pieces,
) -> None:
    """Counts the pieces of each face of the ground or, in a second pass, writes them.

    Args:
        view: The camera.
        ground: F faces.
        factors: See `cull_patches`.
        writing: Which pass.
        counts: (F,) how many pieces, written if not `writing`.
        starts: (F,) where they go, read if `writing`.
        pieces: Written if `writing`.
    """
    f = wp.tid()
    p = ground.patch_of[f]
    layer = int(ground.layers[p])
    face = ground.faces[f]
    corners = Corners()
    for i in range(4):
        at = face[i]
        corners[i] = _to_camera(view, ground.x_m[at], ground.y_m[at], ground.z_m[at])
    if factors[p] < _ZERO or _is_out_of_view(view, corners):
        if not writing:
            counts[f] = 0
        return
    look = _look_of(view, corners, ground.layers[p])
    look.code = ground.codes[layer]
    look.fade = ground.fades[layer]
    factor = factors[p]
    if look.fade == _FADE_PRIMITIVE and ground.filled[layer] == wp.uint8(0):
        factor = _mean_fade(corners)
    look.color = _shaded(ground.colors[layer], factor)
    start = int(-1)
    if writing:
        start = starts[f]
    least_px = ground.min_px[layer] * view.px
    count = _emit_ground_face(view, pieces, start, look, corners, face[2] == face[3], least_px)
    if not writing:
        counts[f] = count


@wp.func
def _solid_face(view: View, solids: SolidArrays, i: int, face: int) -> tuple[Corners, bool]:
    """Returns the camera-space corners of a face of a solid, and whether its outside is seen."""
    axis, sign = face // 2, _ONE
    if face % 2 == 1:
        sign = -_ONE
    center, half, heading = solids.centers_m[i], solids.halves_m[i], solids.headings[i]
    to_eye = view.eye - center
    along = wp.vec3d(
        heading[0] * to_eye[0] + heading[1] * to_eye[1],
        heading[0] * to_eye[1] - heading[1] * to_eye[0],
        to_eye[2],
    )
    corners = Corners()
    for k in range(4):
        local = wp.vec3d(_ZERO, _ZERO, _ZERO)
        local[axis] = sign * half[axis]
        b, c = (axis + 1) % 3, (axis + 2) % 3
        local[b] = half[b]
        local[c] = half[c]
        if k % 3 == 0:
            local[b] = -half[b]
        if k < 2:
            local[c] = -half[c]
        # The offset is turned before the centre is added: as `polygons` does it, and exact far
        # from the origin of the map.
        x = center[0] + (heading[0] * local[0] - heading[1] * local[1])
        y = center[1] + (heading[1] * local[0] + heading[0] * local[1])
        corners[k] = _to_camera(view, x, y, center[2] + local[2])
    return corners, sign * along[axis] > half[axis]


@wp.kernel
def solid_pieces(
    view: View,
    solids: SolidArrays,
    first: int,
    writing: bool,
    counts: wp.array[wp.int32],
    starts: wp.array[wp.int32],
    pieces: Pieces,
) -> None:
    """As `ground_pieces`, for the six faces of each solid; their entries begin at `first`."""
    i, face = wp.tid()
    slot = first + 6 * i + face
    corners, is_facing = _solid_face(view, solids, i, face)
    if not is_facing or _is_out_of_view(view, corners):
        if not writing:
            counts[slot] = 0
        return
    look = _look_of(view, corners, _SOLID_LAYER)
    look.code = solids.codes[i]
    look.fade = solids.fades[i]
    look.instance = solids.instances[i]
    factor = _ONE
    if look.fade == _FADE_PRIMITIVE:
        factor = _mean_fade(corners)
    look.color = _shaded(solids.colors[i, face], factor)
    start = int(-1)
    if writing:
        start = starts[slot]
    count = _emit_face(view, pieces, start, look, corners, 4, _ZERO)
    if not writing:
        counts[slot] = count


@wp.kernel
def list_pieces(
    view: View,
    pieces: Pieces,
    count: int,
    ray_bounds: wp.array[wp.vec4d],
    writing: bool,
    counts: wp.array[wp.int32],
    starts: wp.array[wp.int32],
    listed: wp.array[wp.int32],
) -> None:
    """Counts the pieces in each tile or, in a second pass, lists them in drawing order.

    Args:
        view: The camera.
        pieces: All of them.
        count: How many.
        ray_bounds: (T,) least and largest x, least and largest y of the rays of each tile;
            (0,) for a pinhole.
        writing: Which pass.
        counts: (T,) written if not `writing`.
        starts: (T,) read if `writing`.
        listed: Written if `writing`.
    """
    tile = wp.tid()
    column, row = tile % view.columns, tile // view.columns
    pixels = wp.vec4d(
        wp.float64(TILE_PX * column),
        wp.float64(TILE_PX * column + TILE_PX - 1),
        wp.float64(TILE_PX * row),
        wp.float64(TILE_PX * row + TILE_PX - 1),
    )
    rays = pixels
    if view.model != 0:
        rays = ray_bounds[tile]
    found = int(0)
    for k in range(count):
        box = rays
        if pieces.looks[k].in_raw_image != 0:
            box = pixels
        b = pieces.bounds[k]
        if b[0] <= box[1] and b[1] > box[0] and b[2] <= box[3] and b[3] > box[2]:
            if writing:
                listed[starts[tile] + found] = k
            found += 1
    if not writing:
        counts[tile] = found


@wp.func
def _covers(pieces: Pieces, k: int, corners: int, x: wp.float64, y: wp.float64) -> bool:
    """True if a piece covers a point: even-odd, upper and left edges inclusive."""
    inside = bool(False)
    for i in range(corners):
        edge = pieces.edges[k, i]
        if edge[0] <= y < edge[1] and edge[2] + y * edge[3] <= x:
            inside = not inside
    return inside


@wp.func
def _write_pixel(
    look: Look,
    w: wp.float32,
    row: int,
    column: int,
    channels: int,
    images: Images,
) -> None:
    """Writes one pixel of the channels asked for; an inverse depth of 0 means nothing is there."""
    if channels & RGB != 0:
        factor = wp.float32(1.0)
        if look.fade == _FADE_PIXEL:
            factor = wp.float32(1.0) - _PER_FAR_M / w
        for channel in range(3):
            level = factor * wp.float32(look.color[channel])
            images.rgb[row, column, channel] = wp.uint8(level)
    if channels & CLASS != 0:
        images.codes[row, column] = look.code
    if channels & INSTANCE != 0:
        images.instances[row, column] = look.instance
    if channels & DEPTH != 0:
        images.depths_m[row, column] = wp.float32(1.0) / w


@wp.kernel
def draw_pixels(
    view: View,
    pieces: Pieces,
    starts: wp.array[wp.int32],
    listed: wp.array[wp.int32],
    rays: wp.array2d[wp.vec2f],
    channels: int,
    images: Images,
) -> None:
    """Finds what each pixel shows and writes it to the channels asked for.

    Args:
        view: The camera.
        pieces: All of them.
        starts: (T + 1,) where the list of each tile begins and ends.
        listed: Pieces by tile, in drawing order.
        rays: (H, W) of a lens, NaN where there is none; (0, 0) for a pinhole.
        channels: Bits of those that are written.
        images: Written.
    """
    tile, lane = wp.tid()
    column = tile % view.columns * TILE_PX + lane % TILE_PX
    row = tile // view.columns * TILE_PX + lane // TILE_PX
    if column >= view.width or row >= view.height:
        return
    px, py = wp.float64(column), wp.float64(row)
    x, y = px, py
    if view.model != 0:
        ray = rays[row, column]
        x, y = wp.float64(ray[0]), wp.float64(ray[1])
    shown, nearest, bar = int(-1), wp.float32(0.0), wp.float32(0.0)
    layer = wp.uint8(0)
    if not wp.isnan(x):
        for n in range(starts[tile], starts[tile + 1]):
            k = listed[n]
            at = wp.vec2d(x, y)
            if pieces.looks[k].in_raw_image != 0:
                at = wp.vec2d(px, py)
            if _covers(pieces, k, pieces.looks[k].corners, at[0], at[1]):
                plane = pieces.looks[k].plane
                w = wp.float32(plane[0] * x + plane[1] * y + plane[2])
                w = wp.min(wp.max(w, pieces.looks[k].least), pieces.looks[k].most)
                floor = bar
                if pieces.looks[k].layer == layer:
                    floor = nearest
                if w >= floor:
                    shown, nearest, bar = k, w, w * pieces.looks[k].kept
                    layer = pieces.looks[k].layer
    if shown >= 0:
        _write_pixel(pieces.looks[shown], nearest, row, column, channels, images)
    else:
        _write_pixel(Look(), wp.float32(0.0), row, column, channels, images)


@wp.kernel
def average(large: wp.array3d[wp.uint8], small: wp.array3d[wp.uint8]) -> None:
    """Averages 2 x 2 pixels of a (2 H, 2 W, 3) image into (H, W, 3), rounded to nearest."""
    row, column, channel = wp.tid()
    total = wp.uint32(2)
    for dy in range(2):
        for dx in range(2):
            total += wp.uint32(large[2 * row + dy, 2 * column + dx, channel])
    small[row, column, channel] = wp.uint8(total / wp.uint32(4))
