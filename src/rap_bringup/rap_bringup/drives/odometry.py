"""Odometry from recorded poses, as the vehicle's own odometry would have measured it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray, wrap_angle

ODOMETRY_HZ = 50.0
"""Rate written to bags: common for vehicle odometry, and fresh enough for a 20 Hz guard."""


def states_from_poses(stamps_ns: npt.NDArray[np.int64], poses: FloatArray) -> tuple[EgoState, ...]:
    """Turns poses into ego states without looking ahead.

    The velocity at a pose is the backward difference, so cutting the recording changes nothing
    before the cut. Only the first pose has nothing behind it and takes the second one's velocity.

    Args:
        stamps_ns: (T,) increasing.
        poses: (T, 4) x, y, z (metres), yaw (radians) of the rear axle, map frame.

    Returns:
        T states.
    """
    if len(poses) < 2:
        velocity, yaw_rate = np.zeros((len(poses), 2)), np.zeros(len(poses))
    else:
        dt_s = np.diff(stamps_ns) * 1e-9
        velocity = np.diff(poses[:, :2], axis=0) / dt_s[:, None]
        yaw_rate = wrap_angle(np.diff(poses[:, 3])) / dt_s
        velocity = np.concatenate([velocity[:1], velocity])
        yaw_rate = np.concatenate([yaw_rate[:1], yaw_rate])
    cos, sin = np.cos(poses[:, 3]), np.sin(poses[:, 3])
    forward = cos * velocity[:, 0] + sin * velocity[:, 1]
    left = -sin * velocity[:, 0] + cos * velocity[:, 1]
    rows = np.column_stack([poses[:, :3], wrap_angle(poses[:, 3]), forward, left, yaw_rate])
    return tuple(
        EgoState(int(stamp), *map(float, row)) for stamp, row in zip(stamps_ns, rows, strict=True)
    )


def densified(
    stamps_ns: npt.NDArray[np.int64], poses: FloatArray, rate_hz: float = ODOMETRY_HZ
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Adds poses between recorded ones so that they come at least at `rate_hz`.

    Args:
        stamps_ns: (T,) increasing.
        poses: (T, 4) x, y, z, yaw.
        rate_hz: Wanted rate; every recorded pose is kept.

    Returns:
        stamps_ns: (T',) increasing, the recorded ones among them.
        poses: (T', 4) linear between recorded poses.
    """
    if len(stamps_ns) < 2:
        return stamps_ns, poses
    pieces = np.maximum(np.ceil(np.diff(stamps_ns) * 1e-9 * rate_hz - 1e-6), 1).astype(np.int64)
    dense = [
        start + np.arange(count) * (end - start) // count
        for start, end, count in zip(stamps_ns[:-1], stamps_ns[1:], pieces, strict=True)
    ]
    dense_ns = np.concatenate([*dense, stamps_ns[-1:]])
    offsets = (stamps_ns - stamps_ns[0]).astype(np.float64)
    wanted = (dense_ns - stamps_ns[0]).astype(np.float64)
    columns = [poses[:, 0], poses[:, 1], poses[:, 2], np.unwrap(poses[:, 3])]
    return dense_ns, np.column_stack([np.interp(wanted, offsets, column) for column in columns])
