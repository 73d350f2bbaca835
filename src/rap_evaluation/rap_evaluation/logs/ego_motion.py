"""A track as an ego: its motion at the rear axle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_raster.frames import FloatArray


@dataclass(frozen=True, slots=True)
class EgoStates:
    """A seat over time, at the rear axle on the ground.

    Attributes:
        stamps_ns: (n,) int64.
        poses: (n, 4) x, y, z (metres) and yaw (radians), map frame.
        velocities_mps: (n, 2) forward and left, ego frame.
        yaw_rates_radps: (n,).
    """

    stamps_ns: npt.NDArray[np.int64]
    poses: FloatArray
    velocities_mps: FloatArray
    yaw_rates_radps: FloatArray


def at_rear_axle(
    stamps_ns: npt.NDArray[np.int64], states: FloatArray, rear_axle_to_center_m: float
) -> EgoStates:
    """Moves box-centre states to the rear axle; velocities are those of a rigid body."""
    yaw, yaw_rate = states[:, 3], states[:, 6]
    cos, sin = np.cos(yaw), np.sin(yaw)
    vx = cos * states[:, 4] + sin * states[:, 5]
    vy = -sin * states[:, 4] + cos * states[:, 5] - yaw_rate * rear_axle_to_center_m
    x = states[:, 0] - rear_axle_to_center_m * cos
    y = states[:, 1] - rear_axle_to_center_m * sin
    return EgoStates(
        stamps_ns=stamps_ns,
        poses=np.stack([x, y, states[:, 2], yaw], axis=-1),
        velocities_mps=np.stack([vx, vy], axis=-1),
        yaw_rates_radps=yaw_rate,
    )
