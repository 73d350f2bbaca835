"""Boxes and traffic lights as solids: which are in view, and in what order they hide each other.

Upright boxes that do not intersect can nearly always be painted one over the other. For two of them
a separating line on the ground, or a separating height, says which one can never hide the other.
Where no such order exists (they intersect, or three of them hide each other in a circle), the
image rows in question are marked, and drawing tests the depth there.
"""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rap_raster.camera import NEAR_M
from rap_raster.compiled import helper, kernel, writable
from rap_raster.frames import FloatArray
from rap_raster.projection import MAX_CORNERS, Quad, View, clip, sphere_outside, view_sides
from rap_raster.scene import Boxes, Lights
from rap_raster.styles import SpeedTint, Style

TOUCHING_M = 1e-6
"""Boxes that overlap by no more than this count as touching: rounding of poses, not a collision."""

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

Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


class Solids(NamedTuple):
    """N upright boxes in the map frame; boxes first, traffic lights after them.

    Attributes:
        centers_m: (N, 3) float64 geometric centres.
        halves_m: (N, 3) float64 half length, width and height.
        headings: (N, 2) float64 cosine and sine of the yaw.
        codes: (N,) uint8 class codes.
        instances: (N,) int32 box ids, 0 for lights.
        colors: (N, 6, 3) uint8 RGB of the faces before the depth cue; see `styles.FACES`.
        fades: (N,) uint8 depth cue, a `FADE_` constant of the styles.
    """

    centers_m: FloatArray
    halves_m: FloatArray
    headings: FloatArray
    codes: UInt8
    instances: Int32
    colors: UInt8
    fades: UInt8


def build_solids(boxes: Boxes, lights: Lights, style: Style) -> Solids:
    """Builds what `style` draws of boxes and lights."""
    return Solids(
        *_build(
            (
                writable(boxes.centers_m, np.float64),
                writable(boxes.sizes_m, np.float64),
                writable(boxes.yaws_rad, np.float64),
                writable(boxes.classes, np.uint8),
            ),
            writable(boxes.ids, np.int32),
            boxes.brake_lights,
            style.box_colors,
            style.braking_colors,
            (_tint_shares(boxes, style.speed_tint), style.speed_tint.color),
            style.box_fade,
            (
                writable(lights.centers_m, np.float64),
                writable(lights.sizes_m, np.float64),
                writable(lights.yaws_rad, np.float64),
                writable(lights.states, np.uint8),
            ),
            style.light_colors,
            style.light_fade,
        )
    )


def _tint_shares(boxes: Boxes, tint: SpeedTint) -> FloatArray:
    """Returns (N,) how much of the tint is in the colour of each box; none at unknown speed."""
    speeds_mps = np.nan_to_num(np.hypot(*boxes.velocities_mps.T))
    shares: FloatArray = tint.share * np.minimum(speeds_mps / tint.full_mps, 1.0)
    return shares


@kernel
def _build(
    boxes: tuple[FloatArray, FloatArray, FloatArray, UInt8],
    ids: Int32,
    braking: npt.NDArray[np.bool_],
    box_colors: UInt8,
    braking_colors: UInt8,
    tints: tuple[FloatArray, FloatArray],
    box_fade: int,
    lights: tuple[FloatArray, FloatArray, FloatArray, UInt8],
    light_colors: UInt8,
    light_fade: int,
) -> tuple[FloatArray, FloatArray, FloatArray, UInt8, Int32, UInt8, UInt8]:
    """Builds the arrays of `Solids`."""
    count = len(ids) + len(lights[3])
    centers, halves, headings = np.empty((count, 3)), np.empty((count, 3)), np.empty((count, 2))
    codes, fades = np.empty(count, np.uint8), np.empty(count, np.uint8)
    instances, colors = np.zeros(count, np.int32), np.empty((count, 6, 3), np.uint8)
    for i in range(count):
        is_box = i < len(ids)
        source, k = (boxes, i) if is_box else (lights, i - len(ids))
        centers[i] = source[0][k]
        halves[i] = 0.5 * source[1][k]
        headings[i, 0], headings[i, 1] = math.cos(source[2][k]), math.sin(source[2][k])
        codes[i] = source[3][k]
        fades[i] = box_fade if is_box else light_fade
        if is_box:
            instances[i] = ids[k]
            paint = braking_colors[codes[i]] if braking[k] else box_colors[codes[i]]
            for face in range(6):
                for channel in range(3):
                    plain, tint = float(paint[face, channel]), tints[1][channel]
                    colors[i, face, channel] = round(plain + tints[0][k] * (tint - plain))
        else:
            colors[i] = light_colors[codes[i]]
    return centers, halves, headings, codes, instances, colors, fades


@helper
def _local_offset(solids: Solids, i: int, x: float, y: float) -> tuple[float, float]:
    """Returns a map position relative to a box's centre, along its length and width."""
    dx, dy = x - solids.centers_m[i, 0], y - solids.centers_m[i, 1]
    cos, sin = solids.headings[i, 0], solids.headings[i, 1]
    return cos * dx + sin * dy, cos * dy - sin * dx


@helper
def half_axes(view: View, solids: Solids, i: int, axes: FloatArray) -> None:
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
def face_corners(axes: FloatArray, face: int, corners: FloatArray) -> None:
    """Writes the (3, 4) camera-space corners of a face, see `styles.FACES`, from the half axes."""
    for k in range(4):
        a, b, c = _FACES[face, k, 0], _FACES[face, k, 1], _FACES[face, k, 2]
        for row in range(3):
            corners[row, k] = axes[row, 3] + a * axes[row, 0] + b * axes[row, 1] + c * axes[row, 2]


@helper
def _facing(solids: Solids, i: int, eye: FloatArray) -> int:
    """Returns the faces of a solid that look at the eye, one bit each."""
    along, across = _local_offset(solids, i, eye[0], eye[1])
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
            face_corners(axes, face, corners)
            count = clip(corners, 4, 0, 0.0, 1.0, NEAR_M, clipped)
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
    sides = view_sides(view.bounds, 0.0)
    count = 0
    for i in range(len(solids.centers_m)):
        half_axes(view, solids, i, axes)
        a, b, c = solids.halves_m[i, 0], solids.halves_m[i, 1], solids.halves_m[i, 2]
        x, y, z = axes[0, 3], axes[1, 3], axes[2, 3]
        if sphere_outside(sides, x, y, z, math.sqrt(a * a + b * b + c * c)):
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
def _beyond_side(solids: Solids, i: int, j: int, axis: int, sign: float) -> bool:
    """True if footprint j lies wholly beyond one side of footprint i."""
    along, across = _local_offset(solids, i, solids.centers_m[j, 0], solids.centers_m[j, 1])
    cos = (
        solids.headings[i, 0] * solids.headings[j, 0]
        + solids.headings[i, 1] * solids.headings[j, 1]
    )
    sin = (
        solids.headings[i, 0] * solids.headings[j, 1]
        - solids.headings[i, 1] * solids.headings[j, 0]
    )
    if axis == 0:
        center = along
        reach = abs(cos) * solids.halves_m[j, 0] + abs(sin) * solids.halves_m[j, 1]
    else:
        center = across
        reach = abs(sin) * solids.halves_m[j, 0] + abs(cos) * solids.halves_m[j, 1]
    return bool(sign * center - reach >= solids.halves_m[i, axis] - TOUCHING_M)


@helper
def _by_sides(solids: Solids, i: int, j: int, eye: FloatArray) -> int:
    """Looks for a side of footprint i that separates j; see `first_of`."""
    for axis in range(2):
        for sign in (1.0, -1.0):
            if _beyond_side(solids, i, j, axis, sign):
                seen_from = _local_offset(solids, i, eye[0], eye[1])[axis]
                return i if sign * seen_from > solids.halves_m[i, axis] else j
    return -1


@helper
def first_of(solids: Solids, i: int, j: int, eye: FloatArray) -> int:
    """Returns which of two boxes is to be painted first, because it cannot hide the other.

    If the line along a side of box A has box B on its outer side, then A cannot hide B from an eye
    on the outer side, and B cannot hide A from an eye on the inner one. Heights likewise.

    Returns:
        i, j, or -1 if the boxes intersect.
    """
    first = _by_sides(solids, i, j, eye)
    if first < 0:
        first = _by_sides(solids, j, i, eye)
    if first >= 0:
        return first
    for lower, upper in ((i, j), (j, i)):
        top = solids.centers_m[lower, 2] + solids.halves_m[lower, 2]
        if solids.centers_m[upper, 2] - solids.halves_m[upper, 2] >= top - TOUCHING_M:
            return lower if eye[2] > top else upper
    return -1


@helper
def mark(rect: Quad, image_of: Quad, width: int, deep: Int32) -> None:
    """Marks where a rectangle of the normalised image needs a depth test.

    Args:
        rect: Least and largest x, least and largest y.
        image_of: fx, fy, cx, cy from normalised to pixels.
        width: Of the image.
        deep: (H, 2) first marked column and end per row, extended.
    """
    fx, fy, cx, cy = image_of
    left, right = rect[0] * fx + cx - 1.0, rect[1] * fx + cx + 2.0
    top, bottom = rect[2] * fy + cy - 1.0, rect[3] * fy + cy + 2.0
    first, last = int(min(max(left, 0.0), width)), int(min(max(right, 0.0), width))
    for row in range(int(min(max(top, 0.0), len(deep))), int(min(max(bottom, 0.0), len(deep)))):
        deep[row, 0], deep[row, 1] = min(deep[row, 0], first), max(deep[row, 1], last)


@helper
def _mark_overlap(a: FloatArray, b: FloatArray, image_of: Quad, width: int, deep: Int32) -> None:
    overlap = (max(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), min(a[3], b[3]))
    mark(overlap, image_of, width, deep)


@helper
def _relate(
    solids: Solids, seen: Int32, rects: FloatArray, eye: FloatArray, image_of: Quad, width: int,
    behind: UInt8, deep: Int32,
) -> None:  # fmt: skip
    """Fills behind[a, b] = 1 where b must be painted before a; marks rows without an order."""
    count = len(seen)
    for a in range(count):
        for b in range(a):
            if (
                rects[a, 0] >= rects[b, 1]
                or rects[b, 0] >= rects[a, 1]
                or rects[a, 2] >= rects[b, 3]
                or rects[b, 2] >= rects[a, 3]
            ):
                continue
            first = first_of(solids, seen[a], seen[b], eye)
            if first < 0:
                _mark_overlap(rects[a], rects[b], image_of, width, deep)
            elif first == seen[b]:
                behind[a, b] = 1
            else:
                behind[b, a] = 1


@helper
def _visit(
    root: int, rects: FloatArray, image_of: Quad, width: int, behind: UInt8,
    state: UInt8, stack: Int32, order: Int32, done: int, deep: Int32,
) -> int:  # fmt: skip
    """Appends a solid after all that must be painted before it; returns how many are in order.

    A solid met again while it still waits closes a circle: the rows of that pair are marked.
    """
    count = len(rects)
    stack[0, 0], stack[0, 1], depth = root, 0, 1
    state[root] = 1
    while depth:
        node, b = stack[depth - 1, 0], stack[depth - 1, 1]
        while b < count and (behind[node, b] == 0 or state[b] == 2):
            b += 1
        stack[depth - 1, 1] = b + 1
        if b == count:
            order[done], state[node] = node, 2
            done, depth = done + 1, depth - 1
        elif state[b] == 1:
            _mark_overlap(rects[node], rects[b], image_of, width, deep)
        else:
            stack[depth, 0], stack[depth, 1] = b, 0
            state[b] = 1
            depth += 1
    return done


@helper
def paint_order(
    solids: Solids, seen: Int32, rects: FloatArray, distances: FloatArray, eye: FloatArray,
    image_of: Quad, width: int, deep: Int32,
) -> Int32:  # fmt: skip
    """Orders solids for painting, one over the other.

    Args:
        solids: All of them.
        seen: (n,) those in view.
        rects: (n, 4) least and largest x, least and largest y of each, normalised image.
        distances: (n,) from the eye to the centre; among free ones the farthest comes first, so
            that the order is always the same.
        eye: (3,) camera position, map frame.
        image_of: fx, fy, cx, cy from normalised to pixels.
        width: Of the image.
        deep: (H, 2) extended to where painting in this order may be wrong; see `mark`.

    Returns:
        (n,) places in `seen`, first to last.
    """
    count = len(seen)
    behind = np.zeros((count, count), np.uint8)
    _relate(solids, seen, rects, eye, image_of, width, behind, deep)
    order, state = np.empty(count, np.int32), np.zeros(count, np.uint8)
    stack = np.empty((count + 1, 2), np.int32)
    farthest_first = np.argsort(-distances, kind="mergesort")
    done = 0
    for root in farthest_first:
        if state[root] == 0:
            done = _visit(root, rects, image_of, width, behind, state, stack, order, done, deep)
    return order
