"""The paths that the expert chooses from: the centreline and lines beside it.

They begin at the ego, however it stands, and reach their line smoothly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from rap_evaluation.metrics.pdm_scene import StateIndex
from rap_evaluation.traffic.curve_speed import MAX_LATERAL_MPS2, SpeedProfile, braked
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import distances_along
from rap_raster.vehicle import PACIFICA

FRONT_M = 0.5 * PACIFICA.length_m + PACIFICA.rear_axle_to_center_m
"""Front bumper from the rear axle."""

OFFSETS_M = (0.0, -1.0, 1.0)
"""To the left of the centreline. Source: PDM-Closed (arXiv 2306.07962), section 4."""

SIDE_MARGIN_M = 0.2
"""Kept free on each side: about what a tracker strays in a bend."""

_SPARE_M = 0.5  # Beside a vehicle in its lane; a bend that takes it leaves none for an offset.
_BEHIND_M = 10.0
_AHEAD_M = 150.0  # From 100 km/h one stops at 3 m/s^2 in 130 m.
_SMOOTHING_M = 2.0  # Lines are polygons: curvature is spread over their corners.
_BLEND_S = 3.0  # A lane change at ease takes as long.
_MIN_BLEND_M, _MAX_BLEND_M = 8.0, 45.0


@dataclass(frozen=True, slots=True)
class Paths:
    """P paths beside M metres of a centreline.

    A station is a distance along the centreline, 0 at the first of its M points, one per metre.

    Attributes:
        center_m: (M, 3) x, y, heading of the centreline, heading unwrapped.
        poses_m: (P, M, 3) x, y, heading of the rear axle beside every point.
        stretch: (P, M) metres of a path per metre of the centreline.
        bands_m: (P, M, 2) what the vehicle sweeps: offset of its middle to the left, half width.
        desired_mps: (F, M) for each share of the speed limit, the speed that also suits the bends.
        start_m: Station of the ego's rear axle.
    """

    center_m: FloatArray
    poses_m: FloatArray
    stretch: FloatArray
    bands_m: FloatArray
    desired_mps: FloatArray
    start_m: float

    def poses_at(self, path: int, stations_m: FloatArray) -> FloatArray:
        """Returns the (n, 3) poses of the rear axle at stations of a path."""
        grid = np.arange(len(self.center_m))
        poses = self.poses_m[path]
        return np.stack([np.interp(stations_m, grid, poses[:, i]) for i in range(3)], axis=-1)


def paths_from(
    state: FloatArray,
    centerline_m: FloatArray,
    limits_mps: FloatArray,
    shares: tuple[float, ...],
) -> Paths:
    """Lays paths from the ego along a centreline.

    Args:
        state: (11,) `StateIndex` state of the ego.
        centerline_m: (n, 3) x, y, heading, n >= 2.
        limits_mps: (n,) speed limits at its points.
        shares: Of the limits.
    """
    center, limits, ends = _around(state, centerline_m, limits_mps)
    curvature = gaussian_filter1d(np.gradient(center[:, 2]), _SMOOTHING_M, mode="nearest")
    start_m, offset_m, turn = _place(center, state)
    # The rear axle runs inside of a bend by as much as its corner in front needs outside: with a
    # front overhang f it sweeps f^2 / 2 R more on the outside, and half of that is the middle.
    inset = 0.25 * FRONT_M**2 * curvature
    room = np.clip(1.0 - np.abs(inset) / _SPARE_M, 0.0, 1.0)
    base = inset + np.array(OFFSETS_M)[:, None] * room
    drift = _decaying(start_m, offset_m - base, turn, state[StateIndex.VX])
    return Paths(
        center_m=center,
        poses_m=_beside(center, base + drift),
        stretch=np.maximum(1.0 - curvature * (base + drift), 0.2),
        bands_m=np.stack(
            [
                base + drift - inset,
                np.broadcast_to(0.5 * PACIFICA.width_m + SIDE_MARGIN_M + np.abs(inset), base.shape),
            ],
            axis=-1,
        ),
        desired_mps=np.stack([_desired(share * limits, curvature, ends) for share in shares]),
        start_m=start_m,
    )


def _around(
    state: FloatArray, centerline_m: FloatArray, limits_mps: FloatArray
) -> tuple[FloatArray, FloatArray, bool]:
    """Returns the centreline near the ego at every metre, its limits, and if it ends there."""
    along = distances_along(centerline_m)
    apart = np.hypot(*(centerline_m[:, :2] - state[:2]).T)
    against = np.abs(wrap_angle(centerline_m[:, 2] - state[StateIndex.HEADING])) > 0.5 * np.pi
    here = along[np.argmin(apart + 100.0 * against)]
    first = max(0.0, here - _BEHIND_M)
    grid = np.arange(first, max(min(here + _AHEAD_M, along[-1]), first + 1.0) + 1e-9)
    columns = (centerline_m[:, 0], centerline_m[:, 1], np.unwrap(centerline_m[:, 2]), limits_mps)
    x, y, heading, limits = (np.interp(grid, along, values) for values in columns)
    ends = bool(along[-1] < here + _AHEAD_M)
    return np.stack([x, y, heading], axis=-1), limits, ends


def _place(center: FloatArray, state: FloatArray) -> tuple[float, float, float]:
    """Returns station, offset to the left and heading error of the ego."""
    delta = state[:2] - center[:, :2]
    against = np.abs(wrap_angle(center[:, 2] - state[StateIndex.HEADING])) > 0.5 * np.pi
    index = int(np.argmin(np.hypot(*delta.T) + 100.0 * against))
    cos, sin = np.cos(center[index, 2]), np.sin(center[index, 2])
    dx, dy = delta[index]
    turn = wrap_angle(state[StateIndex.HEADING] - center[index, 2])
    station = float(np.clip(index + cos * dx + sin * dy, 0.0, len(center) - 1.0))
    return station, float(cos * dy - sin * dx), float(turn)


def _decaying(start_m: float, gap_m: FloatArray, turn_rad: float, speed_mps: float) -> FloatArray:
    """Returns (P, M) offsets from the lines aimed at: the ego's at first, then none.

    A cubic Hermite curve from the ego's offset and heading to the line.
    """
    grid = np.arange(gap_m.shape[1])
    at_start = np.array([np.interp(start_m, grid, row) for row in gap_m])[:, None]
    length = float(np.clip(_BLEND_S * speed_mps, _MIN_BLEND_M, _MAX_BLEND_M))
    u = np.clip((grid - start_m) / length, -0.1, 1.0)
    slope = length * np.tan(np.clip(turn_rad, -0.6, 0.6))
    drift: FloatArray = at_start * (2 * u**3 - 3 * u**2 + 1) + slope * (u**3 - 2 * u**2 + u)
    return drift


def _beside(center: FloatArray, offsets_m: FloatArray) -> FloatArray:
    """Returns (P, M, 3) poses at offsets to the left of a centreline, along the line they make."""
    x = center[:, 0] - offsets_m * np.sin(center[:, 2])
    y = center[:, 1] + offsets_m * np.cos(center[:, 2])
    heading = np.arctan2(np.gradient(y, axis=1), np.gradient(x, axis=1))
    return np.stack([x, y, np.unwrap(heading, axis=1)], axis=-1)


def _desired(limits_mps: FloatArray, curvature: FloatArray, ends: bool) -> FloatArray:
    """Returns speeds that suit limits, bends and the end of the line, braking in time for each."""
    bend = np.sqrt(MAX_LATERAL_MPS2 / np.maximum(np.abs(curvature), 1e-4))
    profile = SpeedProfile(np.minimum(limits_mps, bend))
    return braked(profile, 0.0 if ends else float(profile.speeds_mps[-1])).speeds_mps
