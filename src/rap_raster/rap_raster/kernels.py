"""Compiled kernels of the rasterizer: geometry building, clipping, filling, resolving.

One primitive is a planar quad in the ego frame; a triangle repeats its last vertex. Ground comes
first, in layer order, solids after it. Drawing writes two buffers per pixel: an inverse depth and
the index of the primitive seen there. The channels are looked up from those afterwards, so a
channel that nobody asked for costs nothing.

Inverse depth is affine in image coordinates, whatever the perspective, and larger is nearer. The
buffer is cleared to the far limit and every surviving pixel must reach what is stored. Ground
stores its inverse depth reduced by `GROUND_TOLERANCE`: what is drawn later (a higher layer, or a
solid) wins over ground that is as near or only slightly nearer, and loses to ground that is
clearly in front, such as a hill crest or a bridge deck.
"""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from rap_raster.camera import NEAR_M

FAR_M = 120.0
"""Nothing farther than this along the optical axis is drawn (design contract)."""

GROUND_TOLERANCE = 0.1
"""Relative depth by which ground may be in front of a later primitive and still lose to it.

A ray meets two level planes at depths in the ratio of the camera's heights over them, so 0.1 lets
maps be inconsistent in height by 15 cm under a camera at 1.5 m, far below any bridge's clearance.
"""

FADE_NONE, FADE_PRIMITIVE, FADE_PIXEL = 0, 1, 2
"""Depth cue: none, one factor from the mean vertex depth, or one factor per pixel."""

TILE_PX = 16
"""Edge of the square tiles that bound the rays of a camera with a lens."""

MITRE_LIMIT = 2.0
"""A mitre reaches at most this many half widths; beyond, sharp bends would grow spikes."""

MAX_VERTICES = 6
"""A convex quad clipped by one plane has at most five vertices; a crossed one, from a bend sharper
than its segments are long, has six."""

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


@njit(cache=True, nogil=True)
def _normal(points: Float64, first: int, second: int) -> tuple[float, float, float]:
    """Returns the left normal of a segment in the xy plane and its length."""
    dx = points[second, 0] - points[first, 0]
    dy = points[second, 1] - points[first, 1]
    length = math.sqrt(dx * dx + dy * dy)
    if length == 0.0:
        return 0.0, 0.0, 0.0
    return -dy / length, dx / length, length


@njit(cache=True, nogil=True)
def _mitre(
    before: tuple[float, float, float], after: tuple[float, float, float], half_width_m: float
) -> tuple[float, float]:
    """Returns the xy offset from a vertex to the left side of the ribbon."""
    x, y = before[0] + after[0], before[1] + after[1]
    norm = math.sqrt(x * x + y * y)
    if norm < 1e-6:
        return after[0] * half_width_m, after[1] * half_width_m
    # |before + after| = 2 cos(half of the bend), and the mitre is half_width / cos(half bend).
    reach = half_width_m * min(2.0 / norm, MITRE_LIMIT)
    return x / norm * reach, y / norm * reach


@njit(cache=True, nogil=True)
def _distinct(points: Float64, start: int, stop: int, closed: bool, kept: Int32) -> int:
    """Lists the points that differ in xy from the one before; returns how many."""
    count = 0
    for i in range(start, stop):
        if count == 0 or _normal(points, kept[count - 1], i)[2] > 0.0:
            kept[count] = i
            count += 1
    if closed and count > 1 and _normal(points, kept[count - 1], kept[0])[2] == 0.0:
        count -= 1
    return count


@njit(cache=True, nogil=True)
def _ribbon(
    points: Float64, kept: Int32, count: int, closed: bool, half_width_m: float, quads: Float64
) -> int:
    """Writes the mitre-joined quads of one line; returns how many."""
    segments = count if closed else count - 1
    for i in range(segments):
        here = _normal(points, kept[i], kept[(i + 1) % count])
        before = here
        after = here
        if closed or i > 0:
            before = _normal(points, kept[(i - 1) % count], kept[i])
        if closed or i < segments - 1:
            after = _normal(points, kept[(i + 1) % count], kept[(i + 2) % count])
        for end in range(2):
            vertex = kept[(i + end) % count]
            if end == 0:
                x, y = _mitre(before, here, half_width_m)
            else:
                x, y = _mitre(here, after, half_width_m)
            # Order: start left, start right, end right, end left.
            left, right = (0, 1) if end == 0 else (3, 2)
            quads[i, left, 0] = points[vertex, 0] + x
            quads[i, left, 1] = points[vertex, 1] + y
            quads[i, left, 2] = points[vertex, 2]
            quads[i, right, 0] = points[vertex, 0] - x
            quads[i, right, 1] = points[vertex, 1] - y
            quads[i, right, 2] = points[vertex, 2]
    return max(segments, 0)


@njit(cache=True, nogil=True)
def ribbons(
    points: Float64,
    offsets: Int32,
    kinds: UInt8,
    kind: int,
    closed: bool,
    half_width_m: float,
    quads: Float64,
) -> int:
    """Builds the ribbons of all lines of one kind.

    Args:
        points: (M, 3) metres.
        offsets: (P + 1,) first point of each line.
        kinds: (P,) codes.
        kind: The code to build.
        closed: True to join the last point to the first.
        half_width_m: Metres.
        quads: (>= M, 4, 3) output.

    Returns:
        How many quads were written.
    """
    kept = np.empty(len(points), np.int32)
    written = 0
    for shape in range(len(kinds)):
        if kinds[shape] == kind:
            count = _distinct(points, offsets[shape], offsets[shape + 1], closed, kept)
            if count >= 2:
                written += _ribbon(points, kept, count, closed, half_width_m, quads[written:])
    return written


@njit(cache=True, nogil=True)
def _turn(points: Float64, a: int, b: int, c: int) -> float:
    """Returns twice the signed area of a triangle in the xy plane."""
    twice_area: float = (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1]) - (
        points[b, 1] - points[a, 1]
    ) * (points[c, 0] - points[a, 0])
    return twice_area


@njit(cache=True, nogil=True)
def _is_ear(points: Float64, ring: Int32, following: Int32, before: int, i: int) -> bool:
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


@njit(cache=True, nogil=True)
def _ear_cost(points: Float64, ring: Int32, following: Int32, before: int, i: int) -> float:
    """Returns the squared length of the cut, or infinity if there is no ear at `i`.

    Cutting short diagonals first keeps triangles local, so that they follow a sloping strip.
    """
    if not _is_ear(points, ring, following, before, i):
        return math.inf
    a, c = ring[before], ring[following[i]]
    cut: float = (points[a, 0] - points[c, 0]) ** 2 + (points[a, 1] - points[c, 1]) ** 2
    return cut


@njit(cache=True, nogil=True)
def _triangulate(points: Float64, ring: Int32, count: int, quads: Float64) -> int:
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
            quads[written, 0] = points[ring[before]]
            quads[written, 1] = points[ring[best]]
            quads[written, 2] = points[ring[after]]
            quads[written, 3] = points[ring[after]]
            written += 1
        following[before] = after
        preceding[after] = before
        cost[before] = _ear_cost(points, ring, following, preceding[before], before)
        cost[after] = _ear_cost(points, ring, following, before, after)
        current = after
    return written


@njit(cache=True, nogil=True)
def fills(points: Float64, offsets: Int32, kinds: UInt8, kind: int, quads: Float64) -> int:
    """Triangulates all polygons of one kind, concave or not, of either winding.

    Args:
        points: (M, 3) metres, rings not closed.
        offsets: (P + 1,) first point of each ring.
        kinds: (P,) codes.
        kind: The code to build.
        quads: (>= M, 4, 3) output; triangles repeat their last vertex.

    Returns:
        How many triangles were written.
    """
    ring = np.empty(len(points), np.int32)
    written = 0
    for shape in range(len(kinds)):
        if kinds[shape] != kind:
            continue
        count = _distinct(points, offsets[shape], offsets[shape + 1], True, ring)
        area = 0.0
        for i in range(1, count - 1):
            area += _turn(points, ring[0], ring[i], ring[i + 1])
        if area < 0.0:
            ring[:count] = ring[:count][::-1].copy()
        if count >= 3:
            written += _triangulate(points, ring, count, quads[written:])
    return written


@njit(cache=True, nogil=True)
def box_faces(centers: Float64, sizes: Float64, yaws: Float64, quads: Float64) -> None:
    """Builds the faces of upright boxes, vertices counter-clockwise seen from outside.

    Args:
        centers: (N, 3) metres.
        sizes: (N, 3) length, width, height in metres.
        yaws: (N,) radians.
        quads: (6 N, 4, 3) output: front, rear, left, right, top, bottom of each box.
    """
    # Signs of length, width and height for each face's four corners.
    corners = (
        ((1, -1, -1), (1, 1, -1), (1, 1, 1), (1, -1, 1)),
        ((-1, 1, -1), (-1, -1, -1), (-1, -1, 1), (-1, 1, 1)),
        ((1, 1, -1), (-1, 1, -1), (-1, 1, 1), (1, 1, 1)),
        ((-1, -1, -1), (1, -1, -1), (1, -1, 1), (-1, -1, 1)),
        ((-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)),
        ((-1, 1, -1), (1, 1, -1), (1, -1, -1), (-1, -1, -1)),
    )
    for box in range(len(centers)):
        cos, sin = math.cos(yaws[box]), math.sin(yaws[box])
        for face in range(6):
            for corner in range(4):
                signs = corners[face][corner]
                x = 0.5 * signs[0] * sizes[box, 0]
                y = 0.5 * signs[1] * sizes[box, 1]
                vertex = quads[6 * box + face, corner]
                vertex[0] = centers[box, 0] + cos * x - sin * y
                vertex[1] = centers[box, 1] + sin * x + cos * y
                vertex[2] = centers[box, 2] + 0.5 * signs[2] * sizes[box, 2]


@njit(cache=True, nogil=True)
def _plane(vertices: Float64) -> tuple[float, float, float, float]:
    """Returns normal and offset of a quad's plane (Newell), n . p = offset."""
    nx = ny = nz = mx = my = mz = 0.0
    for i in range(4):
        j = (i + 1) % 4
        nx += (vertices[i, 1] - vertices[j, 1]) * (vertices[i, 2] + vertices[j, 2])
        ny += (vertices[i, 2] - vertices[j, 2]) * (vertices[i, 0] + vertices[j, 0])
        nz += (vertices[i, 0] - vertices[j, 0]) * (vertices[i, 1] + vertices[j, 1])
        mx += vertices[i, 0]
        my += vertices[i, 1]
        mz += vertices[i, 2]
    return nx, ny, nz, 0.25 * (nx * mx + ny * my + nz * mz)


@njit(cache=True, nogil=True)
def _cross_near(vertices: Float64, inner: int, outer: int, point: Float64) -> None:
    """Writes where an edge meets the near plane; always computed from its inner end."""
    t = (vertices[inner, 2] - NEAR_M) / (vertices[inner, 2] - vertices[outer, 2])
    point[0] = vertices[inner, 0] + t * (vertices[outer, 0] - vertices[inner, 0])
    point[1] = vertices[inner, 1] + t * (vertices[outer, 1] - vertices[inner, 1])
    point[2] = NEAR_M


@njit(cache=True, nogil=True)
def _clip_near(vertices: Float64, clipped: Float64) -> int:
    """Clips a camera-space quad to the near plane (Sutherland-Hodgman).

    Each corner behind the plane is replaced where it stands in the order, so that a ribbon which
    still has four corners still has its start and end pairs at the same indices.

    Returns:
        The number of corners left.
    """
    count = 0
    for i in range(4):
        if vertices[i, 2] >= NEAR_M:
            clipped[count] = vertices[i]
            count += 1
            continue
        before, after = (i + 3) % 4, (i + 1) % 4
        if vertices[before, 2] >= NEAR_M:
            _cross_near(vertices, before, i, clipped[count])
            count += 1
        if vertices[after, 2] >= NEAR_M:
            _cross_near(vertices, after, i, clipped[count])
            count += 1
    return count


@njit(cache=True, nogil=True)
def _widen_end(polygon: Float64, a: int, b: int, nx: float, ny: float, least: float) -> None:
    """Moves two corners apart, about their midpoint, to at least a width along (nx, ny)."""
    width = (polygon[a, 0] - polygon[b, 0]) * nx + (polygon[a, 1] - polygon[b, 1]) * ny
    if abs(width) >= least:
        return
    half = 0.5 * least if width >= 0.0 else -0.5 * least
    mid_x = 0.5 * (polygon[a, 0] + polygon[b, 0])
    mid_y = 0.5 * (polygon[a, 1] + polygon[b, 1])
    polygon[a, 0], polygon[a, 1] = mid_x + half * nx, mid_y + half * ny
    polygon[b, 0], polygon[b, 1] = mid_x - half * nx, mid_y - half * ny


@njit(cache=True, nogil=True)
def _widen(polygon: Float64, least: float) -> None:
    """Makes a projected ribbon quad at least `least` wide, each end by itself."""
    dx = 0.5 * (polygon[2, 0] + polygon[3, 0] - polygon[0, 0] - polygon[1, 0])
    dy = 0.5 * (polygon[2, 1] + polygon[3, 1] - polygon[0, 1] - polygon[1, 1])
    length = math.sqrt(dx * dx + dy * dy)
    if length == 0.0:
        return
    _widen_end(polygon, 0, 1, -dy / length, dx / length, least)
    # The end pair is stored right, left: opposite to the start pair.
    _widen_end(polygon, 3, 2, -dy / length, dx / length, least)


@njit(cache=True, nogil=True)
def _deepen(polygon: Float64, count: int, inverse_depth: Float64) -> None:
    """Lets a widened ribbon stay in its plane where it was moved outwards, up to the far limit.

    At the depth of the line itself it would hide the foot of a solid that stands beyond it.
    """
    for i in range(count):
        w = inverse_depth[0] * polygon[i, 0] + inverse_depth[1] * polygon[i, 1] + inverse_depth[2]
        inverse_depth[3] = min(inverse_depth[3], max(w, 1.0 / FAR_M))


@njit(cache=True, nogil=True)
def _outside(vertices: Float64, pinhole: Float64, bounds: Float64, margin: float) -> bool:
    """True if a camera-space quad lies wholly outside one side of the view.

    Each side is a plane through the camera centre, so the test also holds behind the camera.
    """
    near = far = left = right = up = down = True
    for i in range(4):
        z = vertices[i, 2]
        u = pinhole[0] * vertices[i, 0] + pinhole[2] * z
        v = pinhole[1] * vertices[i, 1] + pinhole[3] * z
        near &= z < NEAR_M
        far &= z > FAR_M
        left &= u < (bounds[0] - margin) * z
        right &= u > (bounds[1] + margin) * z
        up &= v < (bounds[2] - margin) * z
        down &= v > (bounds[3] + margin) * z
    return near or far or left or right or up or down


@njit(cache=True, nogil=True)
def _to_camera(quad: Float64, camera_from_ego: Float64, vertices: Float64) -> None:
    for i in range(4):
        for row in range(3):
            vertices[i, row] = (
                camera_from_ego[row, 0] * quad[i, 0]
                + camera_from_ego[row, 1] * quad[i, 1]
                + camera_from_ego[row, 2] * quad[i, 2]
                + camera_from_ego[row, 3]
            )


@njit(cache=True, nogil=True)
def _fade_factor(vertices: Float64) -> float:
    """Returns 1 at the camera falling to 0 at the far limit, from the mean vertex depth."""
    mean = 0.0
    for i in range(4):
        mean += 0.25 * min(max(vertices[i, 2], 0.0), FAR_M)
    return (FAR_M - mean) / FAR_M


@njit(cache=True, nogil=True)
def _project(
    vertices: Float64,
    pinhole: Float64,
    least_width: float,
    clipped: Float64,
    polygon: Float64,
    inverse_depth: Float64,
) -> int:
    """Clips and projects one camera-space quad.

    Args:
        vertices: (4, 3) camera space.
        pinhole: (4,) fx, fy, cx, cy.
        least_width: Minimum width of a ribbon in image units; 0 for anything else.
        clipped: (MAX_VERTICES, 3) scratch.
        polygon: (MAX_VERTICES, 2) output, image units.
        inverse_depth: (5,) output: a, b, c of a x + b y + c, then its least and largest value.

    Returns:
        The number of corners, 0 if there is nothing to draw.
    """
    count = _clip_near(vertices, clipped)
    nx, ny, nz, offset = _plane(vertices)
    if count < 3 or offset == 0.0:
        return 0
    inverse_depth[3], inverse_depth[4] = math.inf, 0.0
    for i in range(count):
        w = 1.0 / clipped[i, 2]
        polygon[i, 0] = pinhole[0] * clipped[i, 0] * w + pinhole[2]
        polygon[i, 1] = pinhole[1] * clipped[i, 1] * w + pinhole[3]
        inverse_depth[3] = min(inverse_depth[3], w)
        inverse_depth[4] = max(inverse_depth[4], w)
    inverse_depth[0] = nx / (offset * pinhole[0])
    inverse_depth[1] = ny / (offset * pinhole[1])
    inverse_depth[2] = nz / offset - inverse_depth[0] * pinhole[2] - inverse_depth[1] * pinhole[3]
    if least_width > 0.0 and count == 4:
        _widen(polygon, least_width)
        _deepen(polygon, count, inverse_depth)
    return count


@njit(cache=True, nogil=True)
def _row_range(low: float, high: float, size: int) -> tuple[int, int]:
    """Returns the pixel centres in [low, high), cut to the image."""
    return math.ceil(min(max(low, 0.0), size)), math.ceil(min(max(high, 0.0), size))


@njit(cache=True, nogil=True)
def _trace_edges(
    polygon: Float64, count: int, first: int, last: int, left: Float64, right: Float64
) -> None:
    """Fills the left and right border of each image row of a convex polygon."""
    for row in range(first, last):
        left[row] = math.inf
        right[row] = -math.inf
    for i in range(count):
        j = (i + 1) % count
        # Always from the upper to the lower end, so that neighbours share an edge exactly.
        a, b = (i, j) if polygon[i, 1] < polygon[j, 1] else (j, i)
        if polygon[a, 1] == polygon[b, 1]:
            continue
        slope = (polygon[b, 0] - polygon[a, 0]) / (polygon[b, 1] - polygon[a, 1])
        start, stop = _row_range(polygon[a, 1], polygon[b, 1], last)
        for row in range(max(start, first), stop):
            x = polygon[a, 0] + (row - polygon[a, 1]) * slope
            left[row] = min(left[row], x)
            right[row] = max(right[row], x)


@njit(cache=True, nogil=True)
def _fill_spans(
    polygon: Float64,
    count: int,
    inverse_depth: Float64,
    kept: np.float32,
    tag: np.int32,
    nearest: Float32,
    seen: Int32,
    left: Float64,
    right: Float64,
) -> None:
    """Fills a convex polygon of a pinhole image, row by row."""
    height, width = nearest.shape
    low, high = math.inf, -math.inf
    for i in range(count):
        low = min(low, polygon[i, 1])
        high = max(high, polygon[i, 1])
    first, last = _row_range(low, high, height)
    _trace_edges(polygon, count, first, last, left, right)
    farthest = np.float32(1.0 / FAR_M)
    least = np.float32(inverse_depth[3])
    most = np.float32(inverse_depth[4])
    step = np.float32(inverse_depth[0])
    for row in range(first, last):
        start, stop = _row_range(left[row], right[row], width)
        origin = inverse_depth[0] * start + inverse_depth[1] * row + inverse_depth[2]
        base = np.float32(origin)
        row_nearest = nearest[row, start:stop]
        row_seen = seen[row, start:stop]
        for k in range(stop - start):
            w = min(max(base + step * np.float32(k), least), most)
            # Ground beneath may have stored less than the far limit.
            if w >= max(row_nearest[k], farthest):
                row_nearest[k] = w * kept
                row_seen[k] = tag


@njit(cache=True, nogil=True)
def _covers(polygon: Float64, count: int, sign: float, x: float, y: float) -> bool:
    """True if a point lies in a convex polygon of known orientation; False for NaN."""
    for i in range(count):
        j = (i + 1) % count
        edge_x = polygon[j, 0] - polygon[i, 0]
        edge_y = polygon[j, 1] - polygon[i, 1]
        if not sign * (edge_x * (y - polygon[i, 1]) - edge_y * (x - polygon[i, 0])) >= 0.0:
            return False
    return True


@njit(cache=True, nogil=True)
def _misses(polygon: Float64, count: int, sign: float, box: Float64) -> bool:
    """True if a rectangle lies outside the polygon's bounds or beyond one of its edges."""
    left = right = up = down = True
    for i in range(count):
        j = (i + 1) % count
        edge_x = sign * (polygon[j, 0] - polygon[i, 0])
        edge_y = sign * (polygon[j, 1] - polygon[i, 1])
        # The corner of the rectangle that lies farthest to the inner side of this edge.
        x = box[0] if edge_y >= 0.0 else box[1]
        y = box[3] if edge_x >= 0.0 else box[2]
        if edge_x * (y - polygon[i, 1]) - edge_y * (x - polygon[i, 0]) < 0.0:
            return True
        left &= polygon[i, 0] < box[0]
        right &= polygon[i, 0] > box[1]
        up &= polygon[i, 1] < box[2]
        down &= polygon[i, 1] > box[3]
    return left or right or up or down


@njit(cache=True, nogil=True)
def _fill_rays(
    polygon: Float64,
    count: int,
    inverse_depth: Float64,
    kept: np.float32,
    tag: np.int32,
    nearest: Float32,
    seen: Int32,
    rays: Float64,
    tiles: Float64,
) -> None:
    """Fills a convex polygon of the normalised plane into an image with a lens.

    Every pixel has its own ray, so edges come out curved as the lens bends them, without any
    subdivision. Tiles that cannot meet the polygon are skipped.
    """
    height, width = nearest.shape
    area = 0.0
    for i in range(count):
        j = (i + 1) % count
        area += polygon[i, 0] * polygon[j, 1] - polygon[j, 0] * polygon[i, 1]
    sign = 1.0 if area >= 0.0 else -1.0
    farthest = np.float32(1.0 / FAR_M)
    for tile_y in range(tiles.shape[0]):
        for tile_x in range(tiles.shape[1]):
            if _misses(polygon, count, sign, tiles[tile_y, tile_x]):
                continue
            for y in range(tile_y * TILE_PX, min((tile_y + 1) * TILE_PX, height)):
                for x in range(tile_x * TILE_PX, min((tile_x + 1) * TILE_PX, width)):
                    ray = rays[y, x]
                    if not _covers(polygon, count, sign, ray[0], ray[1]):
                        continue
                    w = inverse_depth[0] * ray[0] + inverse_depth[1] * ray[1] + inverse_depth[2]
                    value = np.float32(min(max(w, inverse_depth[3]), inverse_depth[4]))
                    if value >= max(nearest[y, x], farthest):
                        nearest[y, x] = value * kept
                        seen[y, x] = tag


@njit(cache=True, nogil=True)
def draw(
    quads: Float64,
    ground_count: int,
    min_px: Float32,
    camera_from_ego: Float64,
    pinhole: Float64,
    bounds: Float64,
    px_scale: float,
    rays: Float64,
    tiles: Float64,
    nearest: Float32,
    seen: Int32,
    fade: Float32,
) -> None:
    """Draws all primitives of a scene into the two buffers.

    Args:
        quads: (Q, 4, 3) metres, ego frame; ground in layer order, then solids.
        ground_count: How many of them are ground.
        min_px: (Q,) minimum width of ribbons in pixels, 0 for anything else.
        camera_from_ego: (3, 4) rigid transform.
        pinhole: (4,) fx, fy, cx, cy; 1, 1, 0, 0 for a camera with a lens.
        bounds: (4,) least and largest x, least and largest y of the image, in image units.
        px_scale: Image units per pixel.
        rays: (H, W, 2) ray per pixel for a camera with a lens, else (0, 0, 2).
        tiles: (TH, TW, 4) bounds of the rays in each tile, else (0, 0, 4).
        nearest: (H, W) output, see the module's docstring.
        seen: (H, W) output, index of the primitive, -1 where there is none.
        fade: (Q,) output, depth cue of each primitive from its mean vertex depth.
    """
    nearest[:] = np.float32(1.0 / FAR_M)
    seen[:] = np.int32(-1)
    vertices = np.empty((4, 3))
    clipped = np.empty((MAX_VERTICES, 3))
    polygon = np.empty((MAX_VERTICES, 2))
    inverse_depth = np.empty(5)
    left = np.empty(nearest.shape[0])
    right = np.empty(nearest.shape[0])
    for q in range(len(quads)):
        _to_camera(quads[q], camera_from_ego, vertices)
        least_width = min_px[q] * px_scale
        if _outside(vertices, pinhole, bounds, least_width):
            continue
        is_ground = q < ground_count
        # The camera is the origin: a solid's face is seen from outside if it lies below the plane.
        if not is_ground and _plane(vertices)[3] >= 0.0:
            continue
        count = _project(vertices, pinhole, least_width, clipped, polygon, inverse_depth)
        if count == 0:
            continue
        fade[q] = _fade_factor(vertices)
        kept = np.float32(1.0 - GROUND_TOLERANCE) if is_ground else np.float32(1.0)
        tag = np.int32(q)
        if len(rays) > 0:
            _fill_rays(polygon, count, inverse_depth, kept, tag, nearest, seen, rays, tiles)
        else:
            _fill_spans(polygon, count, inverse_depth, kept, tag, nearest, seen, left, right)


@njit(cache=True, nogil=True)
def resolve_rgb(
    seen: Int32,
    nearest: Float32,
    ground_count: int,
    colors: UInt8,
    fades: UInt8,
    fade: Float32,
    rgb: UInt8,
) -> None:
    """Looks up the colour of every pixel: (H, W, 3) output."""
    height, width = seen.shape
    for y in range(height):
        for x in range(width):
            q = seen[y, x]
            if q < 0:
                rgb[y, x, 0] = rgb[y, x, 1] = rgb[y, x, 2] = 0
                continue
            factor = np.float32(1.0)
            if fades[q] == FADE_PRIMITIVE:
                factor = fade[q]
            elif fades[q] == FADE_PIXEL:
                kept = np.float32(1.0 - GROUND_TOLERANCE) if q < ground_count else np.float32(1.0)
                factor = np.float32(1.0) - kept / (nearest[y, x] * np.float32(FAR_M))
            for channel in range(3):
                rgb[y, x, channel] = np.uint8(factor * np.float32(colors[q, channel]))


@njit(cache=True, nogil=True)
def resolve_class(seen: Int32, codes: UInt8, output: UInt8) -> None:
    """Looks up the class code of every pixel: (H, W) output, 0 where there is nothing."""
    height, width = seen.shape
    for y in range(height):
        for x in range(width):
            output[y, x] = codes[seen[y, x]] if seen[y, x] >= 0 else 0


@njit(cache=True, nogil=True)
def resolve_instance(seen: Int32, instances: Int32, output: Int32) -> None:
    """Looks up the box id of every pixel: (H, W) output, 0 where there is no box."""
    height, width = seen.shape
    for y in range(height):
        for x in range(width):
            output[y, x] = instances[seen[y, x]] if seen[y, x] >= 0 else 0


@njit(cache=True, nogil=True)
def resolve_depth(seen: Int32, nearest: Float32, ground_count: int, output: Float32) -> None:
    """Turns stored inverse depth into metres: (H, W) output, infinity where there is nothing."""
    height, width = seen.shape
    for y in range(height):
        for x in range(width):
            q = seen[y, x]
            kept = np.float32(1.0 - GROUND_TOLERANCE) if q < ground_count else np.float32(1.0)
            depth_m = min(kept / nearest[y, x], np.float32(FAR_M))
            output[y, x] = depth_m if q >= 0 else np.float32(np.inf)
