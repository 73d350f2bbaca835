"""Rigid transforms and angles: the one definition of both for the whole project.

Frames follow REP-103 and REP-105: `map` is ENU; `ego` (ROS name `base_link`) has its origin on the
ground below the rear axle, x forward, y left, z up; `camera` is optical (x right, y down,
z forward). Transforms read right to left: `p_camera = camera_from_ego @ p_ego`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MAX_PLACE_M = 1e8
"""Farther from the map's origin than this is damaged data: the Earth is 4e7 m around."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the ego stands.

    Attributes:
        x_m: Metres, map frame.
        y_m: Metres, map frame.
        z_m: Metres, map frame.
        yaw_rad: Heading, counter-clockwise from the map's +x axis.
        pitch_rad: Nose down, about the ego's y axis; 0 where nobody measures it.
        roll_rad: To the right, about the ego's x axis. The order is roll, pitch, yaw (REP 103).
    """

    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float
    pitch_rad: float = 0.0
    roll_rad: float = 0.0

    def map_from_ego(self) -> FloatArray:
        """Returns the (4, 4) transform from this pose's frame to the map."""
        level = transform_from_yaw(self.yaw_rad, (self.x_m, self.y_m, self.z_m))
        return self.tilted(level)

    def tilted(self, transform: FloatArray) -> FloatArray:
        """Returns a (4, 4) transform from the level frame at this place as one from the ego's."""
        if self.pitch_rad == 0.0 and self.roll_rad == 0.0:
            return transform
        return transform @ _tilt(self.pitch_rad, self.roll_rad)


UNIT_TOLERANCE = 0.01
"""Of the length of a quaternion; one that was never set has none."""

_LOCKED = 1e-14  # Below 1: a pitch of 90 degrees as far as float64 knows.


def _tilt(pitch_rad: float, roll_rad: float) -> FloatArray:
    """Returns the (4, 4) turn by roll about x, then by pitch about y."""
    cos_p, sin_p = np.cos(pitch_rad), np.sin(pitch_rad)
    cos_r, sin_r = np.cos(roll_rad), np.sin(roll_rad)
    turn = np.eye(4)
    turn[:3, :3] = [
        [cos_p, sin_p * sin_r, sin_p * cos_r],
        [0.0, cos_r, -sin_r],
        [-sin_p, cos_p * sin_r, cos_p * cos_r],
    ]
    return turn


def angles_of(x: float, y: float, z: float, w: float) -> tuple[float, float, float]:
    """Returns yaw, pitch and roll, in radians, of a unit quaternion.

    Straight up and down, where yaw and roll are one and the same turn, it is all yaw.
    """
    sine = min(1.0, max(-1.0, 2.0 * (w * y - z * x)))
    if abs(sine) > 1.0 - _LOCKED:
        yaw = np.arctan2(2.0 * (w * z - x * y), 1.0 - 2.0 * (x * x + z * z))
        return float(yaw), float(np.arcsin(sine)), 0.0
    yaw = np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
    roll = np.arctan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y))
    return float(yaw), float(np.arcsin(sine)), float(roll)


def transform_from_yaw(
    yaw_rad: float, translation_m: tuple[float, float, float] | FloatArray
) -> FloatArray:
    """Returns the (4, 4) rigid transform that turns by `yaw_rad` about z, then translates."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    transform = np.eye(4)
    transform[:2, :2] = [[cos, -sin], [sin, cos]]
    transform[:3, 3] = translation_m
    return transform


def inverse(transform: FloatArray) -> FloatArray:
    """Returns the inverse of a (4, 4) rigid transform, without a general matrix inversion."""
    rotation = transform[:3, :3].T
    result = np.eye(4)
    result[:3, :3] = rotation
    result[:3, 3] = -rotation @ transform[:3, 3]
    return result


def transform_points(transform: FloatArray, points: FloatArray) -> FloatArray:
    """Applies a (4, 4) transform to (..., 3) points."""
    result: FloatArray = points @ transform[:3, :3].T + transform[:3, 3]
    return result


def wrap_angle(angle_rad: npt.ArrayLike) -> FloatArray:
    """Wraps angles in radians to [-pi, pi)."""
    wrapped: FloatArray = (np.asarray(angle_rad, dtype=np.float64) + np.pi) % (2 * np.pi) - np.pi
    return wrapped


def to_local(reference: npt.ArrayLike, poses: npt.ArrayLike) -> FloatArray:
    """Expresses planar poses in the frame of a reference pose.

    Args:
        reference: (3,) x, y (metres), yaw (radians) in the parent frame.
        poses: (..., 3) poses in the same parent frame.

    Returns:
        (..., 3) poses in the frame of `reference`, yaw wrapped to [-pi, pi).
    """
    origin = np.asarray(reference, dtype=np.float64)
    poses = np.asarray(poses, dtype=np.float64)
    cos, sin = np.cos(origin[2]), np.sin(origin[2])
    delta = poses[..., :2] - origin[:2]
    local = np.empty_like(poses)
    local[..., 0] = cos * delta[..., 0] + sin * delta[..., 1]
    local[..., 1] = -sin * delta[..., 0] + cos * delta[..., 1]
    local[..., 2] = wrap_angle(poses[..., 2] - origin[2])
    return local


def to_parent(reference: npt.ArrayLike, poses: npt.ArrayLike) -> FloatArray:
    """Inverse of `to_local`: expresses local planar poses (..., 3) in the reference's parent."""
    origin = np.asarray(reference, dtype=np.float64)
    poses = np.asarray(poses, dtype=np.float64)
    cos, sin = np.cos(origin[2]), np.sin(origin[2])
    parent = np.empty_like(poses)
    parent[..., 0] = origin[0] + cos * poses[..., 0] - sin * poses[..., 1]
    parent[..., 1] = origin[1] + sin * poses[..., 0] + cos * poses[..., 1]
    parent[..., 2] = wrap_angle(poses[..., 2] + origin[2])
    return parent
