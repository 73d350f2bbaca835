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


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the ego stands: a position and a heading. Roll and pitch are not modelled.

    Attributes:
        x_m: Metres, map frame.
        y_m: Metres, map frame.
        z_m: Metres, map frame.
        yaw_rad: Heading, counter-clockwise from the map's +x axis.
    """

    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float

    def map_from_ego(self) -> FloatArray:
        """Returns the (4, 4) transform from this pose's frame to the map."""
        return transform_from_yaw(self.yaw_rad, (self.x_m, self.y_m, self.z_m))


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
