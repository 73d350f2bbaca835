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

_NEWTON_STEPS = 20
_TOLERANCE = 1e-9
"""Largest error of an inverted point, normalised; 1e-5 px at a focal length of 10,000 px."""

_NEGLIGIBLE = 1e-30
"""Coefficient of a lens polynomial that changes nothing: radii reach 1e3, powers seven."""


BEYOND_SLOPE = 0.01
"""How fast distorted points move outwards beyond the invertible range: any positive number keeps
what lies there outside the image of the range, a small one keeps it near."""

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
    distorted = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    radius = np.linalg.norm(distorted, axis=-1)
    limit = _largest_radius(distortion)
    guess_radius = _invert_radius(distortion, radius, limit)
    guess = distorted * (guess_radius / np.where(radius > 0, radius, 1.0))[:, None]
    if distortion.model == "equidistant":
        inside = radius <= _equidistant_radius(distortion)(np.arctan(limit))
        result = guess
    else:
        result = _newton(distortion, distorted, guess)
        error = np.abs(distort(distortion, result) - distorted).max(axis=-1)
        inside = (error < _TOLERANCE) & (np.linalg.norm(result, axis=-1) <= limit)
        inside &= np.linalg.det(_jacobian(distortion, result)) > 0
    return np.where(inside[:, None], result, np.nan).reshape(np.shape(points))


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


def _invert_radius(distortion: Distortion, radius: FloatArray, limit: float) -> FloatArray:
    """Inverts the radial part by bisection; it grows monotonically up to `limit`."""
    fisheye = distortion.model == "equidistant"
    low = np.zeros_like(radius)
    high = np.full_like(radius, np.arctan(limit))
    for _ in range(60):
        # Bisect over the angle: the radius itself spans too many orders of magnitude.
        middle = 0.5 * (low + high)
        if fisheye:
            value = _equidistant_radius(distortion)(middle)
        else:
            radial_only = Distortion(distortion.model, _without_tangential(distortion))
            point = np.stack([np.tan(middle), np.zeros_like(middle)], axis=-1)
            value = distort(radial_only, point)[:, 0]
        low, high = np.where(value < radius, middle, low), np.where(value < radius, high, middle)
    return np.tan(0.5 * (low + high))


def _without_tangential(distortion: Distortion) -> tuple[float, ...]:
    k1, k2, _, _, *rest = distortion.coeffs
    return (k1, k2, 0.0, 0.0, *rest)


def _jacobian(distortion: Distortion, points: FloatArray) -> FloatArray:
    """Returns the (N, 2, 2) derivative of `distort`, by central differences."""
    step = 1e-6
    columns = [
        (distort(distortion, points + offset) - distort(distortion, points - offset)) / (2 * step)
        for offset in np.eye(2) * step
    ]
    return np.stack(columns, axis=-1)


def _newton(distortion: Distortion, distorted: FloatArray, guess: FloatArray) -> FloatArray:
    """Adds the tangential part to a radial guess; diverging points are caught by the caller."""
    points = guess.copy()
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            error = distort(distortion, points) - distorted
            if np.abs(error).max(initial=0.0) < 0.1 * _TOLERANCE:
                break
            jacobian = _jacobian(distortion, points)
            determinant = np.linalg.det(jacobian)
            (a, b), (c, d) = jacobian[:, 0].T, jacobian[:, 1].T
            step = np.stack([d * error[:, 0] - b * error[:, 1], a * error[:, 1] - c * error[:, 0]])
            usable = np.abs(determinant) > 1e-12
            points -= np.where(usable, step / np.where(usable, determinant, 1.0), 0.0).T
    return points
