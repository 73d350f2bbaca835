"""The ego of the PDM score: an LQR tracker and a kinematic bicycle follow planned poses.

All quirks of NAVSIM's simulator are kept on purpose, since they are the metric; "NAVSIM" stands
for autonomousvision/navsim at 0a380a90, folder `pdm_planner/simulation/`. What is solved
differently has the same solution: both least squares there have constant or banded matrices.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from rap_evaluation.metrics.pdm_scene import DT_S, HORIZON_STEPS, STATE_SIZE, STATES, StateIndex
from rap_raster.frames import FloatArray, to_parent, wrap_angle
from rap_raster.vehicle import PACIFICA

Array = npt.NDArray[Any]

WHEEL_BASE_M = 3.089
"""Source: nuplan-devkit, `vehicle_parameters.py`, Pacifica."""

WHEEL_BASE_SHARE = WHEEL_BASE_M / PACIFICA.length_m
"""Of the length, for vehicles known by their boxes only."""

_ACCELERATION_PENALTY = 1e-4
"""On the accelerations of the speed profile. Source: NAVSIM, `batch_lqr_utils.py`."""

_CURVATURE_RATE_PENALTY = 1e-2
_INITIAL_CURVATURE_PENALTY = 1e-10
_LOOK_AHEAD_STEPS = 10
_STOPPING_SPEED_MPS = 0.2
_STOPPING_GAIN = 0.5
_SPEED_COST = 10.0
_ACCELERATION_COST = 1.0
_HEADING_COST = 10.0  # Relative to the lateral error; the steering angle costs nothing.
_STEERING_RATE_COST = 1.0
"""Source of these: NAVSIM, `batch_lqr.py`."""

_ACCELERATION_DELAY_S = 0.2
_ACCELERATION_SHARE = DT_S / (DT_S + _ACCELERATION_DELAY_S)
_STEERING_SHARE = DT_S / (DT_S + 0.05)
MAX_STEERING_RAD = math.pi / 3
"""Low-pass filters of the actuators and the steering stop. Source: NAVSIM,
`batch_kinematic_bicycle.py`."""

PREVIEW_S = _LOOK_AHEAD_STEPS * DT_S
SPEED_DELAY_S = (_SPEED_COST + _ACCELERATION_COST) / _SPEED_COST + _ACCELERATION_DELAY_S
"""The speed wanted is the one planned that far ahead, and is reached with this time constant: of
the tracker and, after it, of the actuators."""

_X, _Y, _HEADING = int(StateIndex.X), int(StateIndex.Y), int(StateIndex.HEADING)
_VX, _VY, _AX = int(StateIndex.VX), int(StateIndex.VY), int(StateIndex.AX)
_AY, _STEERING = int(StateIndex.AY), int(StateIndex.STEERING_ANGLE)
_STEERING_RATE = int(StateIndex.STEERING_RATE)
_YAW_RATE = int(StateIndex.ANGULAR_VELOCITY)
_YAW_ACCELERATION = int(StateIndex.ANGULAR_ACCELERATION)


def resample(poses_m: FloatArray, dt_s: float, ego_pose: FloatArray) -> FloatArray:
    """Turns plans into one pose every 0.1 s, the present one included.

    Source: NAVSIM, `evaluate/pdm_score.py:26-82`.

    Args:
        poses_m: (C, T, 3) x, y, heading in the ego frame at dt_s, 2 dt_s, ...
        dt_s: Time between poses; T dt_s is at least 4 s.
        ego_pose: (3,) x, y, heading of the rear axle, map frame.

    Returns:
        (C, 41, 3) x, y, heading in [-pi, pi), map frame.
    """
    count, length, _ = poses_m.shape
    knots = np.empty((count, length + 1, 3))
    knots[:, 0] = ego_pose
    knots[:, 1:] = to_parent(ego_pose, poses_m)
    knots[..., 2] = np.unwrap(knots[..., 2], axis=1)
    place = np.minimum(np.arange(STATES) * DT_S / dt_s, length)
    left = np.minimum(place.astype(np.intp), length - 1)
    share = (place - left)[:, None]
    poses = (1.0 - share) * knots[:, left] + share * knots[:, left + 1]
    poses[..., 2] = wrap_angle(poses[..., 2])
    return np.asarray(poses)


def simulate(initial_states: FloatArray, poses_m: FloatArray) -> FloatArray:
    """Drives along plans.

    Args:
        initial_states: (C, 11) or (11,) `StateIndex` states of the rear axle, map frame; velocity
            and acceleration in the ego frame. NAVSIM starts with straight wheels.
        poses_m: (C, 41, 3) planned x, y, heading of the rear axle every 0.1 s, map frame.

    Returns:
        (C, 41, 11) states, the initial ones included.
    """
    states = np.empty((len(poses_m), STATES, STATE_SIZE))
    states[:, 0] = initial_states
    speeds_mps = _speed_profile(poses_m)
    curvatures = np.empty_like(speeds_mps)
    _curvature_profile(poses_m, speeds_mps, curvatures)
    _drive(poses_m, speeds_mps, curvatures, states)
    return states


def _speed_matrix() -> FloatArray:
    """Returns the (40, 40) matrix from displacements along the headings to speeds.

    Least squares over the first speed and 39 accelerations. Rotations drop out of its normal
    matrix, so that it is the same for all plans. The penalty is meant to be on the changes of the
    accelerations, but the official difference matrix loses its superdiagonal, all of it but the
    last entry: it is a ridge on the accelerations (`batch_lqr_utils.py:59-72`).
    """
    count = HORIZON_STEPS
    speeds = np.tril(np.full((count, count), DT_S))
    speeds[:, 0] = 1.0
    penalty = np.zeros((count - 2, count))
    penalty[:, 1:-1] = -np.eye(count - 2)
    penalty[-1, -1] = 1.0
    normal = DT_S**2 * speeds.T @ speeds + _ACCELERATION_PENALTY * penalty.T @ penalty
    return np.asarray(speeds @ np.linalg.solve(normal, DT_S * speeds.T))


_SPEED_MATRIX = _speed_matrix()


def _speed_profile(poses_m: FloatArray) -> FloatArray:
    """Returns the (C, 40) reference speeds of plans."""
    steps = np.diff(poses_m[..., :2], axis=1)
    heading = poses_m[:, :-1, 2]
    along = np.cos(heading) * steps[..., 0] + np.sin(heading) * steps[..., 1]
    return np.asarray(along @ _SPEED_MATRIX.T)


@njit(cache=True, nogil=True)
def _wrap(angle: float) -> float:
    """Wraps to [-pi, pi)."""
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


@njit(cache=True, nogil=True)
def _curvature_profile(poses: Array, speeds: Array, curvatures: Array) -> None:
    """Fits curvatures to the heading changes of plans, at the speeds of their profiles.

    Least squares over the first curvature and its rates, each with a penalty. That is a chain of
    values that are linked to their neighbours only: a pass forward gathers what is known of each
    from those before it, a pass back adds those after it.
    """
    link = _CURVATURE_RATE_PENALTY / (DT_S * DT_S)
    weights, sums = np.empty(HORIZON_STEPS), np.empty(HORIZON_STEPS)
    for c in range(len(poses)):
        weight, total = _INITIAL_CURVATURE_PENALTY, 0.0
        for i in range(HORIZON_STEPS):
            travelled = speeds[c, i] * DT_S
            turned = _wrap(poses[c, i + 1, 2] - poses[c, i, 2])
            weights[i] = weight + travelled * travelled
            sums[i] = total + travelled * turned
            weight = weights[i] * link / (weights[i] + link)
            total = sums[i] * link / (weights[i] + link)
        following = sums[-1] / weights[-1]
        curvatures[c, -1] = following
        for i in range(HORIZON_STEPS - 2, -1, -1):
            following = (sums[i] + link * following) / (weights[i] + link)
            curvatures[c, i] = following


@njit(cache=True, nogil=True)
def _drive(poses: Array, speeds: Array, curvatures: Array, states: Array) -> None:
    for c in range(len(poses)):
        for k in range(HORIZON_STEPS):
            target = speeds[c, min(k + _LOOK_AHEAD_STEPS, HORIZON_STEPS - 1)]
            speed = states[c, k, _VX]
            if target <= _STOPPING_SPEED_MPS and speed <= _STOPPING_SPEED_MPS:
                acceleration, steering_rate = -_STOPPING_GAIN * (speed - target), 0.0
            else:
                gain = _SPEED_COST / (_SPEED_COST + _ACCELERATION_COST)
                acceleration = gain * (target - speed)
                steering_rate = _steering_command(
                    states[c, k], poses[c, k], curvatures[c], k, acceleration
                )
            _advance(states[c, k], states[c, k + 1], acceleration, steering_rate)


@njit(cache=True, nogil=True)
def _steering_command(
    state: Array, pose: Array, curvatures: Array, k: int, acceleration: float
) -> float:
    """Returns the constant steering rate that is best after one second.

    The error (lateral, heading, steering angle) is linear in the rate: `free` is what it becomes
    without steering, `gain` what a rate of one adds.
    """
    ex, ey = state[_X] - pose[0], state[_Y] - pose[1]
    lateral = -ex * math.sin(pose[2]) + ey * math.cos(pose[2])
    heading, steering = _wrap(state[_HEADING] - pose[2]), state[_STEERING]
    lateral_gain, heading_gain, steering_gain = 0.0, 0.0, 0.0
    for j in range(_LOOK_AHEAD_STEPS):
        travelled = (state[_VX] + acceleration * DT_S * j) * DT_S
        turn = travelled / WHEEL_BASE_M
        curvature = curvatures[min(k + j, HORIZON_STEPS - 1)]
        lateral += travelled * heading
        lateral_gain += travelled * heading_gain
        heading += turn * steering - travelled * curvature
        heading_gain += turn * steering_gain
        steering_gain += DT_S
    cost = lateral_gain * lateral_gain + _HEADING_COST * heading_gain * heading_gain
    slope = lateral_gain * lateral + _HEADING_COST * heading_gain * _wrap(heading)
    rate: float = -slope / (cost + _STEERING_RATE_COST)
    return rate


@njit(cache=True, nogil=True)
def _advance(now: Array, after: Array, acceleration: float, steering_rate: float) -> None:
    """Moves the bicycle by one Euler step; the pose moves with the old speed and steering."""
    speed, angle = now[_VX], now[_STEERING]
    filtered = now[_AX] + _ACCELERATION_SHARE * (acceleration - now[_AX])
    turned = angle + _STEERING_SHARE * DT_S * steering_rate
    new_speed = speed + filtered * DT_S
    new_angle = min(max(turned, -MAX_STEERING_RAD), MAX_STEERING_RAD)
    after[_X] = now[_X] + speed * math.cos(now[_HEADING]) * DT_S
    after[_Y] = now[_Y] + speed * math.sin(now[_HEADING]) * DT_S
    after[_HEADING] = _wrap(now[_HEADING] + speed * math.tan(angle) / WHEEL_BASE_M * DT_S)
    after[_VX], after[_VY] = new_speed, 0.0
    after[_AX], after[_AY] = filtered, 0.0
    after[_STEERING], after[_STEERING_RATE] = new_angle, (turned - angle) / DT_S
    after[_YAW_RATE] = new_speed * math.tan(new_angle) / WHEEL_BASE_M
    after[_YAW_ACCELERATION] = (after[_YAW_RATE] - now[_YAW_RATE]) / DT_S
