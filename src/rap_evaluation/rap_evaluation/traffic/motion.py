"""Smooth vehicle motion from SUMO's positions.

SUMO moves a front bumper along lanes whose ends do not always meet, finishes lane changes in one
jump where a junction begins, and turns vehicles in jumps. Here jumps are spread over some seconds,
each road user's path is smoothed as a curve, its box centre follows that curve with SUMO's progress
over time, and its rear axle is towed behind without side slip. That is how a car moves, so heading,
yaw rate and velocity fit together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import distances_along
from rap_raster.vehicle import REAR_AXLE_TO_CENTER_SHARE

STEP_M = 0.2
"""Sampling of the path."""

SMOOTHING_M = 1.0
"""Width of the smoothing: cuts a 7 m curve by 0.07 m and spreads a kink over some two metres."""

JUMP_SPREAD_S = 1.5
"""Half the time that a jump is spread over: a lane change of 3 s."""

_JUMP_M = 0.15  # Motion that differs more from the speed is a jump, and not a kink of a lane.
_MARGIN_M = 25.0  # Straight run added at both ends: twice the longest vehicle.
_MIN_TOW_M = 0.3  # People and other short things turn on the spot.


def follow(
    fronts_m: FloatArray,
    speeds_mps: FloatArray,
    heading_rad: float,
    length_m: float,
    dt_s: float,
) -> FloatArray:
    """Returns the motion of a road user.

    Args:
        fronts_m: (n, 2) positions of the front bumper, n >= 2.
        speeds_mps: (n,) speeds; motion that differs from them is a jump.
        heading_rad: Heading at the first position: the vehicle came from straight behind.
        length_m: Length of the vehicle; 0 if the positions are already of its centre.
        dt_s: Time between positions.

    Returns:
        (n, 6) centre x, y, yaw in [-pi, pi), velocity x, y and yaw rate.
    """
    expected_m = 0.5 * dt_s * (speeds_mps[1:] + speeds_mps[:-1])
    fronts_m = _spread_jumps(fronts_m, expected_m, round(JUMP_SPREAD_S / dt_s))
    travelled_m = distances_along(fronts_m)
    path_m = _smooth_path(fronts_m, travelled_m, heading_rad)
    tow_m = max(length_m * REAR_AXLE_TO_CENTER_SHARE, _MIN_TOW_M)
    yaws = _towed_heading(path_m, tow_m)
    along_m = _MARGIN_M + travelled_m - 0.5 * length_m
    grid_m = STEP_M * np.arange(len(path_m))
    center = np.stack([np.interp(along_m, grid_m, path_m[:, axis]) for axis in (0, 1)], axis=-1)
    yaw = np.interp(along_m, grid_m, yaws)
    velocity = np.gradient(center, dt_s, axis=0)
    return np.column_stack([center, wrap_angle(yaw), velocity, np.gradient(yaw, dt_s)])


def _spread_jumps(fronts_m: FloatArray, expected_m: FloatArray, spread: int) -> FloatArray:
    """Replaces jumps by smooth ramps over `spread` steps before and after.

    A jump is kept as so much ahead and so much to the left, so that ramps follow bends.
    """
    steps = np.diff(fronts_m, axis=0)
    jumps = np.flatnonzero(np.abs(np.hypot(*steps.T) - expected_m) > _JUMP_M)
    if len(jumps) == 0:
        return fronts_m
    forward = _directions(steps, jumps)
    left = np.stack([-forward[:, 1], forward[:, 0]], axis=-1)
    offset = np.zeros_like(fronts_m)
    when = np.arange(len(fronts_m))
    for jump in jumps:
        extra = steps[jump] - expected_m[jump] * forward[jump]
        share = np.clip((when - (jump + 0.5)) / (2.0 * spread) + 0.5, 0.0, 1.0)
        ramp = share * share * (3.0 - 2.0 * share) - (when > jump)
        offset += np.outer(ramp, [extra @ forward[jump], extra @ left[jump]])
    spread_m: FloatArray = fronts_m + offset[:, :1] * forward + offset[:, 1:] * left
    return spread_m


def _directions(steps_m: FloatArray, jumps: npt.NDArray[np.intp]) -> FloatArray:
    """Returns the (n + 1, 2) direction of motion at every position, jumps left out."""
    length = np.hypot(*steps_m.T)
    sound = length > 1e-3
    sound[jumps] = False
    if not sound.any():
        sound[jumps] = True
    angle = np.unwrap(np.arctan2(steps_m[sound, 1], steps_m[sound, 0]))
    every = np.interp(np.arange(len(steps_m) + 1), np.flatnonzero(sound) + 0.5, angle)
    return np.stack([np.cos(every), np.sin(every)], axis=-1)


def _smooth_path(fronts_m: FloatArray, travelled_m: FloatArray, heading_rad: float) -> FloatArray:
    """Returns the path at even distances, with straight margins before and after."""
    behind = np.array([np.cos(heading_rad), np.sin(heading_rad)]) * _MARGIN_M
    moving = np.concatenate([[True], np.diff(travelled_m) > 1e-6])
    points, along = fronts_m[moving], travelled_m[moving]
    ahead = behind
    far = np.searchsorted(along, along[-1] - 0.5)  # Direction over half a metre, not of noise.
    if far < len(points) - 1:
        step = points[-1] - points[far]
        ahead = step / np.hypot(*step) * _MARGIN_M
    points = np.concatenate([points[:1] - behind, points, points[-1:] + ahead])
    along = np.concatenate([[-_MARGIN_M], along, [along[-1] + _MARGIN_M]])
    grid = np.arange(-_MARGIN_M, along[-1] + STEP_M, STEP_M)
    sampled = np.stack([np.interp(grid, along, points[:, axis]) for axis in (0, 1)], axis=-1)
    smoothed: FloatArray = gaussian_filter1d(sampled, SMOOTHING_M / STEP_M, axis=0, mode="nearest")
    return smoothed


def _towed_heading(path_m: FloatArray, tow_m: float) -> FloatArray:
    """Returns the unwrapped heading of a rod of length `tow_m` whose front follows the path.

    The rear end moves only along the rod (no side slip): each step the heading turns by the
    path's motion across the rod over its length.
    """
    steps = np.diff(path_m, axis=0)
    headings = np.empty(len(path_m))
    heading = float(np.arctan2(steps[0, 1], steps[0, 0]))
    headings[0] = heading
    for i, (dx, dy) in enumerate(steps):
        # Midpoint rule: second order, stable for steps below the rod's length.
        half = 0.5 * (dy * np.cos(heading) - dx * np.sin(heading)) / tow_m
        middle = heading + half
        heading += (dy * np.cos(middle) - dx * np.sin(middle)) / tow_m
        headings[i + 1] = heading
    return headings
