"""How edited road users move: elsewhere along or beside the path they took, or at other speeds."""

from __future__ import annotations

import numpy as np

from rap_evaluation.logs.driven_path import DrivenPath
from rap_evaluation.metrics.pdm_scene import DT_S
from rap_raster.frames import FloatArray

FASTER_MPS = 5.0
"""Than it was: at most what a road user that speeds up gains."""


def shifted_along(states: FloatArray, ahead_m: float) -> FloatArray:
    """Returns (n, 7) states moved ahead along the path they make, straight on behind its ends."""
    path = DrivenPath(states[:, :4])
    return _at_poses(states, path.poses_at(path.along_m + ahead_m))


def shifted_across(states: FloatArray, left_m: float) -> FloatArray:
    """Returns (n, 7) states moved to the left of their headings."""
    poses = states[:, :4].copy()
    poses[:, 0] -= left_m * np.sin(states[:, 3])
    poses[:, 1] += left_m * np.cos(states[:, 3])
    return _at_poses(states, poses)


def at_rate(states: FloatArray, first: int, rate_mps2: float) -> FloatArray:
    """Returns (n, 7) states on the same path that from a row on gain or lose speed.

    Who already gains or loses more does as before.

    Args:
        states: States before.
        first: Row from which on.
        rate_mps2: Acceleration; negative for braking.
    """
    path = DrivenPath(states[:, :4])
    before_mps = np.hypot(states[first:, 4], states[first:, 5])
    ramp_mps = before_mps[0] + rate_mps2 * DT_S * np.arange(len(before_mps))
    if rate_mps2 > 0.0:
        speeds_mps = np.maximum(before_mps, np.minimum(ramp_mps, before_mps[0] + FASTER_MPS))
    else:
        speeds_mps = np.minimum(before_mps, np.maximum(ramp_mps, 0.0))
    places_m = path.along_m[first] + DT_S * np.concatenate([[0.0], np.cumsum(speeds_mps[:-1])])
    return np.concatenate([states[:first], driving(path.poses_at(places_m), speeds_mps)])


def driving(poses: FloatArray, speeds_mps: FloatArray) -> FloatArray:
    """Returns the (n, 7) states of who drives through (n, 4) x, y, z, yaw at (n,) speeds."""
    yaw = np.unwrap(poses[:, 3])
    velocity = speeds_mps[:, None] * np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
    return np.column_stack([poses, velocity, np.gradient(yaw, DT_S)])


def _at_poses(states: FloatArray, poses: FloatArray) -> FloatArray:
    """Returns states moved to other poses; their velocities turn along."""
    turn = poses[:, 3] - states[:, 3]
    cos, sin = np.cos(turn), np.sin(turn)
    vx, vy = states[:, 4], states[:, 5]
    velocity = np.stack([cos * vx - sin * vy, sin * vx + cos * vy], axis=-1)
    return np.column_stack([poses, velocity, states[:, 6]])
