"""From a few candidate poses to the dense, timed trajectory that a controller reads.

Positions and headings are cubic Hermite functions of time through the candidate poses. Knot
velocities are central differences, limited so that the curve never runs past a pose at which the
vehicle stands (Fritsch and Carlson, "Monotone Piecewise Cubic Interpolation", 1980).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray

STEP_S = 0.1
"""Time between the poses of `rap/trajectory`. Source: the ROS contract."""

MAX_SPEED_MPS = 70.0
"""What only something faster could do are broken numbers; 250 km/h."""

MONOTONE_LIMIT = 3.0
"""A knot slope of at most three times the smaller neighbouring chord keeps a cubic monotone."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What a controller follows.

    Attributes:
        stamp_ns: Stamp of the input it was computed from.
        poses_m: (n, 3) x, y, yaw (continuous); pose k is at the stamp plus (k + 1) `STEP_S`.
        z_m: Height of the ground under the ego.
        in_map: True in the map frame; False in the base frame, which moves with the vehicle.
    """

    stamp_ns: int
    poses_m: FloatArray
    z_m: float
    in_map: bool = True

    @classmethod
    def standing(cls, stamp_ns: int, ego: EgoState | None) -> Trajectory:
        """Returns one pose, which means: do not move.

        Args:
            stamp_ns: Of the trajectory.
            ego: Where to stand. None: wherever the vehicle is, which only its own frame can say.
        """
        if ego is None:
            return cls(stamp_ns, np.zeros((1, 3)), 0.0, in_map=False)
        return cls(stamp_ns, ego.planar[None], ego.z_m)

    def at(self, times_s: FloatArray) -> FloatArray:
        """Returns (M, 3) poses at (M,) seconds after the stamp, held where it ends."""
        if len(self.poses_m) == 1:
            return np.repeat(self.poses_m, len(times_s), axis=0)
        steps = times_s / STEP_S - 1.0
        left = np.clip(np.floor(steps), 0, len(self.poses_m) - 2).astype(np.intp)
        share = np.clip(steps - left, -1.0, 1.0)[:, None]  # -1: the pose at the stamp itself.
        result: FloatArray = (1.0 - share) * self.poses_m[left] + share * self.poses_m[left + 1]
        return result

    def speeds(self) -> tuple[FloatArray, FloatArray]:
        """Returns (n,) speeds along the heading, m/s, and (n,) turn rates, rad/s, of n > 1 poses.

        Where the step before and the one after differ, it is their mean.
        """
        velocities_mps = np.gradient(self.poses_m, STEP_S, axis=0)
        yaw_rad = self.poses_m[:, 2]
        ahead_mps = np.cos(yaw_rad) * velocities_mps[:, 0] + np.sin(yaw_rad) * velocities_mps[:, 1]
        return ahead_mps, velocities_mps[:, 2]


def interpolate_poses(
    ego: EgoState, poses_m: FloatArray, dt_s: float, times_s: FloatArray
) -> FloatArray:
    """Evaluates the curves through the current pose and the poses of candidates.

    Args:
        ego: State at time 0, map frame.
        poses_m: (..., T, 3) x, y, yaw at times dt_s, 2 dt_s, ..., map frame.
        dt_s: Time between poses.
        times_s: (M,) seconds; clipped to 0 .. T dt_s.

    Returns:
        (..., M, 3) x, y, yaw (continuous, not wrapped).
    """
    start = np.broadcast_to(ego.planar, (*poses_m.shape[:-2], 1, 3))
    knots = np.concatenate([start, poses_m], axis=-2)
    knots[..., 2] = np.unwrap(knots[..., 2])
    cos, sin = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
    start_velocity = np.array(
        [
            cos * ego.vx_mps - sin * ego.vy_mps,
            sin * ego.vx_mps + cos * ego.vy_mps,
            ego.yaw_rate_radps,
        ]
    )
    slopes = np.concatenate(
        [
            _knot_slopes(knots[..., :2], start_velocity[:2], dt_s),
            _knot_slopes(knots[..., 2:], start_velocity[2:], dt_s),
        ],
        axis=-1,
    )
    return _hermite(knots, slopes, dt_s, times_s)


def arcs_m(paths_m: FloatArray) -> FloatArray:
    """Returns (..., n) metres along (..., n, 3) paths to each of their poses."""
    steps_m = np.linalg.norm(np.diff(paths_m[..., :2], axis=-2), axis=-1)
    return np.concatenate([np.zeros((*steps_m.shape[:-1], 1)), np.cumsum(steps_m, axis=-1)], -1)


def along_paths(paths_m: FloatArray, distances_m: FloatArray) -> FloatArray:
    """Returns the poses at given distances along paths.

    Args:
        paths_m: (K, n, 3) x, y, yaw; yaw continuous.
        distances_m: (K, M) from the first poses; past the end a path goes on straight ahead.

    Returns:
        (K, M, 3) x, y, yaw.
    """
    arcs = arcs_m(paths_m)
    rows = np.arange(len(paths_m))[:, None]
    # One search in all paths: each has a range of numbers of its own.
    apart = rows * (1.0 + max(arcs.max(), distances_m.max()))
    passed = np.searchsorted((arcs + apart).ravel(), distances_m + apart, side="right")
    left = np.clip(passed - rows * arcs.shape[1] - 1, 0, arcs.shape[1] - 2)
    begin, end = arcs[rows, left], arcs[rows, left + 1]
    share = np.clip((distances_m - begin) / np.maximum(end - begin, 1e-12), 0.0, 1.0)[..., None]
    result = (1.0 - share) * paths_m[rows, left] + share * paths_m[rows, left + 1]
    beyond_m = np.maximum(distances_m - arcs[:, -1:], 0.0)
    yaws_rad = paths_m[:, -1:, 2]
    result[..., 0] += beyond_m * np.cos(yaws_rad)
    result[..., 1] += beyond_m * np.sin(yaws_rad)
    return np.asarray(result)


def dense_times(horizon_s: float) -> FloatArray:
    """Returns `STEP_S`, 2 `STEP_S`, ... up to the horizon, seconds."""
    return np.arange(1, int(horizon_s / STEP_S + 1e-6) + 1, dtype=np.float64) * STEP_S


def _knot_slopes(knots: FloatArray, start: FloatArray, dt_s: float) -> FloatArray:
    """Returns (..., n, d) limited slopes at (..., n, d) knots; the first one is given."""
    chords = np.diff(knots, axis=-2) / dt_s
    slopes = np.empty_like(knots)
    slopes[..., 0, :] = start
    slopes[..., 1:-1, :] = 0.5 * (chords[..., :-1, :] + chords[..., 1:, :])
    slopes[..., -1, :] = 2.0 * chords[..., -1, :] - slopes[..., -2, :]
    before = np.concatenate([chords[..., :1, :], chords], axis=-2)
    after = np.concatenate([chords, chords[..., -1:, :]], axis=-2)
    limits = MONOTONE_LIMIT * np.minimum(
        np.linalg.norm(before, axis=-1), np.linalg.norm(after, axis=-1)
    )
    turns_back = ((slopes * before).sum(-1) < 0) | ((slopes * after).sum(-1) < 0)
    limits[turns_back] = 0.0
    norms = np.linalg.norm(slopes, axis=-1)
    share = np.minimum(1.0, limits / np.maximum(norms, 1e-12))
    limited: FloatArray = slopes * share[..., None]
    return limited


def _hermite(
    knots: FloatArray, slopes: FloatArray, dt_s: float, times_s: npt.NDArray[np.float64]
) -> FloatArray:
    times = np.clip(times_s / dt_s, 0.0, knots.shape[-2] - 1.0)
    left = np.minimum(times.astype(np.intp), knots.shape[-2] - 2)
    u = (times - left)[:, None]
    result: FloatArray = (
        (1 + 2 * u) * (1 - u) ** 2 * knots[..., left, :]
        + u * (1 - u) ** 2 * dt_s * slopes[..., left, :]
        + u**2 * (3 - 2 * u) * knots[..., left + 1, :]
        + u**2 * (u - 1) * dt_s * slopes[..., left + 1, :]
    )
    return result
