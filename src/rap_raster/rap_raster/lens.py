"""Lens models of `sensor_msgs/CameraInfo`: distortion and its inverse.

Formulas: OpenCV documentation, modules calib3d ("plumb_bob" and "rational_polynomial") and
fisheye ("equidistant"). Coordinates are normalised: x = X / Z, y = Y / Z of the optical frame.

A lens model is only meaningful where it is invertible: from the axis outwards until the distorted
radius stops growing. Beyond that one pixel would show two directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Polynomial

from rap_raster.camera import CameraModel, Distortion
from rap_raster.compiled import helper, kernel
from rap_raster.frames import FloatArray

MAX_ANGLE_RAD = np.pi / 2 - 1e-3
"""No ray is steeper than this against the optical axis: depth along the axis would vanish."""

_BISECTIONS = 40
_NEWTON_STEPS = 20
_TOLERANCE = 1e-9
"""Largest error of an inverted point, normalised; 1e-5 px at a focal length of 10,000 px."""

_NEGLIGIBLE = 1e-30
"""Coefficient of a lens polynomial that changes nothing: radii reach 1e3, powers seven."""


BEYOND_SLOPE = 0.5
"""How fast distorted points move outwards beyond the invertible range: fast enough to keep away
from the pixels within the range, whose last ones lie close together."""

PINHOLE, POLYNOMIAL, EQUIDISTANT = 0, 1, 2
"""Families of lens models for `bend`: plumb_bob and rational_polynomial are one."""

_BAND_ROWS = 32
"""Image rows inverted at once: the inversion needs some 250 bytes per pixel besides its result."""


@helper
def bend(model: int, coeffs: FloatArray, x: float, y: float) -> tuple[float, float]:
    """Applies a lens model to one normalised point.

    Beyond the invertible range, where the formulas fold back, points go on outwards.

    Args:
        model: `POLYNOMIAL` or `EQUIDISTANT`.
        coeffs: (9,) OpenCV's coefficients padded with zeros, and the largest pinhole radius of the
            invertible range; see `lens_coefficients`.
        x: Normalised pinhole coordinate.
        y: Normalised pinhole coordinate.
    """
    radius = math.sqrt(x * x + y * y)
    beyond_x = beyond_y = 0.0
    if radius > coeffs[8]:
        inside = coeffs[8] / radius
        beyond_x, beyond_y = x * (1.0 - inside), y * (1.0 - inside)
        x, y, radius = x * inside, y * inside, coeffs[8]
    if model == EQUIDISTANT:
        theta = math.atan(radius)
        t2 = theta * theta
        bent = theta * (
            1.0 + t2 * (coeffs[0] + t2 * (coeffs[1] + t2 * (coeffs[2] + t2 * coeffs[3])))
        )
        scale = bent / radius if radius > 0.0 else 1.0
        x, y = x * scale, y * scale
    else:
        r2 = radius * radius
        radial = (1.0 + r2 * (coeffs[0] + r2 * (coeffs[1] + r2 * coeffs[4]))) / (
            1.0 + r2 * (coeffs[5] + r2 * (coeffs[6] + r2 * coeffs[7]))
        )
        p1, p2 = coeffs[2], coeffs[3]
        x, y = (
            x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
        )
    return x + BEYOND_SLOPE * beyond_x, y + BEYOND_SLOPE * beyond_y


@kernel
def _bend_all(model: int, coeffs: FloatArray, points: FloatArray, bent: FloatArray) -> None:
    for i in range(len(points)):
        bent[i, 0], bent[i, 1] = bend(model, coeffs, points[i, 0], points[i, 1])


def lens_family(distortion: Distortion | None) -> int:
    """Returns the `model` argument of `bend`."""
    if distortion is None:
        return PINHOLE
    return EQUIDISTANT if distortion.model == "equidistant" else POLYNOMIAL


@lru_cache(maxsize=256)
def lens_coefficients(distortion: Distortion | None) -> FloatArray:
    """Returns the `coeffs` argument of `bend`."""
    coeffs = np.zeros(9)
    if distortion is not None:
        coeffs[: len(distortion.coeffs)] = distortion.coeffs
        coeffs[8] = _largest_radius(distortion)
    return coeffs


def distort(distortion: Distortion, points: FloatArray) -> FloatArray:
    """Applies a lens model.

    Args:
        distortion: The model and its coefficients.
        points: (..., 2) normalised pinhole coordinates.

    Returns:
        (..., 2) normalised distorted coordinates. Meaningless outside the invertible range.
    """
    flat = np.ascontiguousarray(points, np.float64).reshape(-1, 2)
    bent = np.empty_like(flat)
    coeffs = lens_coefficients(distortion).copy()
    coeffs[8] = np.inf
    _bend_all(lens_family(distortion), coeffs, flat, bent)
    return bent.reshape(np.shape(points))


def undistort(distortion: Distortion, points: FloatArray) -> FloatArray:
    """Inverts a lens model.

    Args:
        distortion: The model and its coefficients.
        points: (..., 2) normalised distorted coordinates.

    Returns:
        (..., 2) normalised pinhole coordinates, NaN outside the invertible range.
    """
    distorted = np.ascontiguousarray(points, np.float64).reshape(-1, 2)
    result = np.empty_like(distorted)
    _unbend_all(lens_family(distortion), lens_coefficients(distortion), distorted, result)
    return result.reshape(np.shape(points))


@helper
def _invert_radius(model: int, coeffs: FloatArray, radius: float, limit: float) -> float:
    """Inverts the radial part by bisection; it grows monotonically up to `limit`.

    Args:
        model: See `bend`.
        coeffs: See `bend`; tangential ones and the range have no effect.
        radius: Distorted.
        limit: Largest argument: an angle for `EQUIDISTANT`, else a pinhole radius.

    Returns:
        The argument.
    """
    low, high = 0.0, limit
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        m2 = middle * middle
        if model == EQUIDISTANT:
            value = middle * (
                1.0 + m2 * (coeffs[0] + m2 * (coeffs[1] + m2 * (coeffs[2] + m2 * coeffs[3])))
            )
        else:
            value = (
                middle
                * (1.0 + m2 * (coeffs[0] + m2 * (coeffs[1] + m2 * coeffs[4])))
                / (1.0 + m2 * (coeffs[5] + m2 * (coeffs[6] + m2 * coeffs[7])))
            )
        if value < radius:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@helper
def _refine(  # noqa: PLR0917 - numba wants arguments by position
    coeffs: FloatArray, limit: float, u: float, v: float, x: float, y: float
) -> tuple[float, float]:
    """Solves bend(x, y) = (u, v) by Newton steps from a guess; NaN where they do not get there."""
    step = 1e-6
    for _ in range(_NEWTON_STEPS):
        bu, bv = bend(POLYNOMIAL, coeffs, x, y)
        ru, rv = bend(POLYNOMIAL, coeffs, x + step, y)
        lu, lv = bend(POLYNOMIAL, coeffs, x - step, y)
        tu, tv = bend(POLYNOMIAL, coeffs, x, y + step)
        du, dv = bend(POLYNOMIAL, coeffs, x, y - step)
        a, b = 0.5 * (ru - lu) / step, 0.5 * (tu - du) / step
        c, d = 0.5 * (rv - lv) / step, 0.5 * (tv - dv) / step
        determinant = a * d - b * c
        error_u, error_v = bu - u, bv - v
        if max(abs(error_u), abs(error_v)) < _TOLERANCE:
            if determinant > 0.0 and x * x + y * y <= limit * limit:
                return x, y
            break
        if not abs(determinant) > 1e-12:
            break
        x -= (d * error_u - b * error_v) / determinant
        y -= (a * error_v - c * error_u) / determinant
    return math.nan, math.nan


@kernel
def _unbend_all(model: int, coeffs: FloatArray, points: FloatArray, result: FloatArray) -> None:
    """Inverts `bend` for neighbouring points, each solution being the guess for the next."""
    limit = coeffs[8]
    free = coeffs.copy()
    free[8] = math.inf
    x = y = math.nan
    for i in range(len(points)):
        u, v = points[i, 0], points[i, 1]
        radius = math.sqrt(u * u + v * v)
        if model == EQUIDISTANT:
            largest = math.atan(limit)
            theta = _invert_radius(model, coeffs, radius, largest)
            # The bisection ends at the limit for anything outside of the range.
            inside = theta < largest * (1.0 - 1e-9)
            scale = math.tan(theta) / radius if radius > 0.0 else 1.0
            x, y = (u * scale, v * scale) if inside else (math.nan, math.nan)
        else:
            x, y = _refine(free, limit, u, v, x, y)
            if math.isnan(x):
                pinhole = _invert_radius(model, coeffs, radius, limit)
                scale = pinhole / radius if radius > 0.0 else 1.0
                x, y = _refine(free, limit, u, v, u * scale, v * scale)
        result[i, 0], result[i, 1] = x, y


@dataclass(frozen=True, slots=True)
class LensGrid:
    """Which way each pixel of a camera with a lens looks.

    Attributes:
        rays: (H, W, 2) float32 normalised pinhole coordinates, NaN outside the invertible range.
        bounds: Least and largest x, least and largest y of the rays; an inverted range if there
            is none.
        gaps: (n, 2) int32 runs of pixels without a ray: first and end, counted row by row.
    """

    rays: npt.NDArray[np.float32]
    bounds: tuple[float, float, float, float]
    gaps: npt.NDArray[np.int32]


def lens_grid(camera: CameraModel) -> LensGrid:
    """Returns the rays of a camera with a lens; computed once per calibration and size.

    Raises:
        ValueError: If the camera has no lens model.
    """
    if camera.distortion is None:
        raise ValueError(f"camera {camera.name!r} has no lens model")
    intrinsics = (camera.fx, camera.fy, camera.cx, camera.cy)
    return _lens_grid((camera.width, camera.height), intrinsics, camera.distortion)


@lru_cache(maxsize=32)
def _lens_grid(
    size: tuple[int, int], intrinsics: tuple[float, float, float, float], distortion: Distortion
) -> LensGrid:
    width, height = size
    fx, fy, cx, cy = intrinsics
    x, y = (np.arange(width) - cx) / fx, (np.arange(height) - cy) / fy
    rays = np.empty((height, width, 2), np.float32)
    for row in range(0, height, _BAND_ROWS):
        band = np.stack(np.meshgrid(x, y[row : row + _BAND_ROWS]), axis=-1)
        rays[row : row + _BAND_ROWS] = undistort(distortion, band)
    missing = np.isnan(rays[..., 0]).ravel()
    steps = np.diff(missing.astype(np.int8), prepend=0, append=0)
    gaps = np.stack([np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)], axis=1)
    return LensGrid(rays, _bounds(rays), gaps.astype(np.int32))


def _bounds(rays: npt.NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Returns least and largest x, least and largest y; an inverted range if all are NaN."""
    x = rays[..., 0][np.isfinite(rays[..., 0])]
    y = rays[..., 1][np.isfinite(rays[..., 1])]
    infinity = np.inf
    return (
        float(x.min(initial=infinity)),
        float(x.max(initial=-infinity)),
        float(y.min(initial=infinity)),
        float(y.max(initial=-infinity)),
    )


def _padded(distortion: Distortion) -> tuple[float, ...]:
    return (*distortion.coeffs, *(0.0,) * (8 - len(distortion.coeffs)))


def _equidistant_radius(distortion: Distortion) -> Polynomial:
    """Returns theta -> distorted radius."""
    k1, k2, k3, k4 = distortion.coeffs
    return Polynomial([0, 1, 0, k1, 0, k2, 0, k3, 0, k4])


def _first_root(polynomial: Polynomial, limit: float) -> float:
    """Returns the smallest real root in (0, limit), else `limit`."""
    # Coefficients this small move no root below the steepest ray, but would overflow as divisors.
    roots = polynomial.trim(_NEGLIGIBLE).roots()
    real = roots[np.abs(roots.imag) < 1e-9].real
    inside = real[(real > 0) & (real < limit)]
    return float(inside.min()) if len(inside) else limit


def _largest_radius(distortion: Distortion) -> float:
    """Returns the pinhole radius up to which the distorted radius grows."""
    if distortion.model == "equidistant":
        slope = _equidistant_radius(distortion).deriv()
        return float(np.tan(_first_root(slope, MAX_ANGLE_RAD)))
    k1, k2, _, _, k3, k4, k5, k6 = _padded(distortion)
    top = Polynomial([0, 1, 0, k1, 0, k2, 0, k3])
    bottom = Polynomial([1, 0, k4, 0, k5, 0, k6])
    limit = _first_root(bottom, float(np.tan(MAX_ANGLE_RAD)))
    return _first_root(top.deriv() * bottom - top * bottom.deriv(), limit)
