"""Whether a car can drive a trajectory: the limits of a kinematic bicycle, for many at once.

Everything is measured on the poses that a controller reads, 0.1 s apart, and on the speed at which
they begin, so that what passes here is what is published.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_planner.trajectory import STEP_S
from rap_raster.frames import FloatArray

CREEP_MPS = 2.0
"""Slower than this, headings are judged as if at this speed: centimetres of noise in the poses of a
planner that stands or creeps are large angles, and mean nothing."""

STEERING_WINDOW_STEPS = 5
"""Steering rates are means over 0.5 s, the time between the poses of the planner. Between them
the curve is ours, and its curvature has corners at every one of them."""


@dataclass(frozen=True, slots=True)
class BicycleLimits:
    """What the vehicle can do.

    Attributes:
        wheel_base_m: Between the axles.
        max_steering_rad: Of the front wheels; with the wheel base it gives the tightest curve.
        steering_rate_radps: Of the front wheels.
        acceleration_mps2: Forwards.
        braking_mps2: Largest deceleration.
        lateral_acceleration_mps2: To either side.
        slip_rad: Between heading and direction of motion at the rear axle; also how far it may turn
            on the spot in all.
        reverse_m: How far it may roll backwards, or slide aside, in all.
    """

    wheel_base_m: float = 3.089
    max_steering_rad: float = 0.6
    steering_rate_radps: float = 0.8
    acceleration_mps2: float = 5.0
    braking_mps2: float = 7.0
    lateral_acceleration_mps2: float = 5.0
    slip_rad: float = 0.3
    reverse_m: float = 0.5

    @property
    def curvature_per_m(self) -> float:
        """Of the tightest curve of the rear axle."""
        return float(np.tan(self.max_steering_rad)) / self.wheel_base_m


@dataclass(frozen=True, slots=True)
class Demand:
    """What K trajectories ask of the vehicle in one respect, at their worst.

    Attributes:
        name: For people.
        unit: For people.
        values: (K,) >= 0.
        limit: Largest value that the vehicle can do.
    """

    name: str
    unit: str
    values: FloatArray
    limit: float

    def text(self, index: int) -> str:
        """Says what one trajectory asks for."""
        return f"{self.name} {self.values[index]:.2f} {self.unit}, limit {self.limit:.2f}"


def demands(poses_m: FloatArray, start_speed_mps: float, limits: BicycleLimits) -> list[Demand]:
    """Measures what trajectories ask of the vehicle.

    Args:
        poses_m: (K, M + 1, 3) x, y, yaw (continuous) of the rear axle at times 0, 0.1 s, ...
        start_speed_mps: Speed at time 0.
        limits: What the vehicle can do.
    """
    steps_m = np.diff(poses_m, axis=1)
    middle_rad = poses_m[:, :-1, 2] + 0.5 * steps_m[..., 2]
    cos, sin = np.cos(middle_rad), np.sin(middle_rad)
    ahead_m = cos * steps_m[..., 0] + sin * steps_m[..., 1]
    aside_m = cos * steps_m[..., 1] - sin * steps_m[..., 0]
    speeds_mps = ahead_m / STEP_S
    # The speed at which the trajectory begins lies half a step before the first mean speed.
    first_mps2 = (speeds_mps[:, :1] - start_speed_mps) / (0.5 * STEP_S)
    gained_mps2 = np.concatenate([first_mps2, np.diff(speeds_mps, axis=1) / STEP_S], axis=1)
    creep_m = CREEP_MPS * STEP_S
    moved_m = np.maximum(np.abs(ahead_m), creep_m)
    curvature = steps_m[..., 2] / moved_m
    slip_rad = np.arctan(aside_m / moved_m)
    return [
        Demand("acceleration", "m/s2", _most(gained_mps2), limits.acceleration_mps2),
        Demand("braking", "m/s2", _most(-gained_mps2), limits.braking_mps2),
        Demand(
            "lateral acceleration",
            "m/s2",
            lateral_acceleration_mps2(poses_m),
            limits.lateral_acceleration_mps2,
        ),
        Demand("curvature", "1/m", _most(np.abs(curvature)), limits.curvature_per_m),
        Demand(
            "steering rate",
            "rad/s",
            _steering_rates(steps_m[..., 2], moved_m, limits.wheel_base_m),
            limits.steering_rate_radps,
        ),
        Demand("slip", "rad", _most(np.abs(slip_rad)), limits.slip_rad),
        Demand("reverse", "m", np.maximum(-ahead_m, 0.0).sum(axis=1), limits.reverse_m),
        # At a crawl each step may be noise; steps to one side add up to a way no car can take.
        Demand(
            "sliding aside",
            "m",
            _in_all(aside_m, np.tan(limits.slip_rad) * np.abs(ahead_m)),
            limits.reverse_m,
        ),
        Demand(
            "turning on the spot",
            "rad",
            _in_all(steps_m[..., 2], limits.curvature_per_m * np.abs(ahead_m)),
            limits.slip_rad,
        ),
    ]


def _in_all(changes: FloatArray, possible: FloatArray) -> FloatArray:
    """Returns (K,) how far (K, M) changes get to either side beyond what is possible in each."""
    beyond = changes - np.clip(changes, -possible, possible)
    return _most(np.abs(np.cumsum(beyond, axis=1)))


def lateral_acceleration_mps2(poses_m: FloatArray) -> FloatArray:
    """Returns (K,) the largest one, to either side, of (K, M + 1, 3) poses 0.1 s apart."""
    steps_m = np.diff(poses_m, axis=1)
    moved_m = np.linalg.norm(steps_m[..., :2], axis=-1)
    return _most(moved_m * np.abs(steps_m[..., 2])) / STEP_S**2


def steering_angles(
    speeds_mps: FloatArray, turns_radps: FloatArray, wheel_base_m: float
) -> FloatArray:
    """Returns the angles of the front wheels, rad; below `CREEP_MPS` as if at that speed."""
    faster_mps = np.maximum(np.abs(speeds_mps), CREEP_MPS)
    angles: FloatArray = np.arctan(wheel_base_m * turns_radps / faster_mps)
    return angles


def _steering_rates(turns_rad: FloatArray, moved_m: FloatArray, wheel_base_m: float) -> FloatArray:
    """Returns (K,) the fastest change of the steering angle between windows that touch."""
    window = STEERING_WINDOW_STEPS
    if turns_rad.shape[1] < 2 * window:
        return np.zeros(len(turns_rad))
    curvature = _window_sums(turns_rad, window) / _window_sums(moved_m, window)
    steering_rad = np.arctan(wheel_base_m * curvature)
    changes_rad = steering_rad[:, window:] - steering_rad[:, :-window]
    return _most(np.abs(changes_rad)) / (window * STEP_S)


def _window_sums(values: FloatArray, window: int) -> FloatArray:
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    result: FloatArray = sums[:, window:] - sums[:, :-window]
    return result


def _most(values: FloatArray) -> FloatArray:
    largest: FloatArray = np.maximum(values.max(axis=1), 0.0)
    return largest
