"""The camera in kernels: sides of the view, projection, clipping.

Kernels of the rasterizer keep arrays in local variables and hand scalars to each other where they
are called per face: numba counts references of every array that it passes on, which costs more than
the arithmetic of a face.
"""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rap_raster.camera import NEAR_M
from rap_raster.compiled import helper
from rap_raster.frames import FloatArray
from rap_raster.lens import bend

FAR_M = 120.0
"""Nothing farther than this along the optical axis is drawn (design contract)."""

SIDE_MARGIN_RAD = 0.05
"""Before they are bent, faces are cut to the view, so far outside of it that the cuts, which are
bent like any edge, come nowhere near a pixel."""

STEEPEST_RAD = 0.5 * math.pi - 1e-6
"""No side of a view is steeper than this against the optical axis."""

MAX_CORNERS = 12
"""A convex quad cut by near plane, far limit and four sides has ten corners at the most."""

Quad = tuple[float, float, float, float]
"""One coordinate of four corners."""


class View(NamedTuple):
    """A camera as the kernels want it.

    Attributes:
        camera_from_map: (3, 4) float64 rigid transform.
        pinhole: fx, fy, cx, cy in pixels.
        bounds: Least and largest x, least and largest y of the normalised rays.
        sides: (4, 2) float64 see `view_sides`, `SIDE_MARGIN_RAD` outside of the bounds.
        px: Image pixels per pixel of a style (2 when supersampling).
        model: Lens model of `lens.bend`, 0 for a pinhole.
        coeffs: (9,) float64 lens coefficients and range, see `lens.bend`.
    """

    camera_from_map: FloatArray
    pinhole: Quad
    bounds: Quad
    sides: FloatArray
    px: float
    model: int
    coeffs: FloatArray


@helper
def view_sides(bounds: Quad, margin_rad: float) -> FloatArray:
    """Returns the (4, 2) inward normals of the view's sides: left, right (x, z), top, bottom.

    Each side is a plane through the camera centre, so the tests also hold behind the camera.

    Args:
        bounds: See `View`.
        margin_rad: How far outside of the bounds the sides are.
    """
    sides = np.empty((4, 2))
    for i in range(4):
        sign = 1.0 if i % 2 == 0 else -1.0
        angle = math.atan(bounds[i]) - sign * margin_rad
        angle = min(max(angle, -STEEPEST_RAD), STEEPEST_RAD)
        sides[i, 0], sides[i, 1] = sign * math.cos(angle), -sign * math.sin(angle)
    return sides


@helper
def sphere_outside(sides: FloatArray, x: float, y: float, z: float, radius: float) -> bool:
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
def is_beside(view: View, x: Quad, y: Quad, z: Quad) -> bool:
    """True if four corners all lie beyond one side of the view."""
    sides = view.sides
    common = 15
    for i in range(4):
        beyond = 0
        for side in range(4):
            across = x[i] if side < 2 else y[i]
            beyond |= int(sides[side, 0] * across + sides[side, 1] * z[i] < 0.0) << side
        common &= beyond
    return common != 0


@helper
def quad(values: FloatArray) -> Quad:
    """Returns one coordinate of four corners as scalars."""
    return values[0], values[1], values[2], values[3]


@helper
def to_pixel(
    model: int, coeffs: FloatArray, pinhole: Quad, x: float, y: float
) -> tuple[float, float]:
    """Returns the image point of a normalised ray."""
    if model:
        x, y = bend(model, coeffs, x, y)
    return pinhole[0] * x + pinhole[2], pinhole[1] * y + pinhole[3]


@helper
def clip(
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
def clip_depth(points: FloatArray, count: int, clipped: FloatArray) -> int:
    """Clips camera-space corners to the near plane and the far limit."""
    middle = np.empty((3, MAX_CORNERS))
    count = clip(points, count, 0, 0.0, 1.0, NEAR_M, middle)
    return clip(middle, count, 0, 0.0, -1.0, -FAR_M, clipped)


@helper
def clip_sides(view: View, points: FloatArray, count: int) -> int:
    """Clips camera-space corners to the sides of the view, in place."""
    sides, other = view.sides, np.empty((3, MAX_CORNERS))
    for i in range(0, 4, 2):
        count = clip(points, count, i // 2, sides[i, 0], sides[i, 1], 0.0, other)
        count = clip(other, count, i // 2, sides[i + 1, 0], sides[i + 1, 1], 0.0, points)
    return count
