"""The way a road user took, by distance: where it would have been sooner, later or beside it."""

from __future__ import annotations

import numpy as np

from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import distances_along

_EXTENSION_M = 40.0  # Straight on at both ends.
_MOVED_M = 0.02  # Between knots: who stands has no direction of travel.


class DrivenPath:
    """A path through recorded poses.

    Attributes:
        along_m: (n,) distance travelled at every pose.
    """

    def __init__(self, poses: FloatArray) -> None:
        """Takes (n, 4) x, y, z, yaw over time."""
        self.along_m = distances_along(poses)
        moving = np.concatenate([[True], np.diff(self.along_m) > _MOVED_M])
        knots = np.column_stack([poses[moving, :3], np.unwrap(poses[moving, 3])])
        self._knots = np.concatenate(
            [_extended(knots[:1], -_EXTENSION_M), knots, _extended(knots[-1:], _EXTENSION_M)]
        )
        at_m = self.along_m[moving]
        self._at_m = np.concatenate([[at_m[0] - _EXTENSION_M], at_m, [at_m[-1] + _EXTENSION_M]])

    def poses_at(self, along_m: FloatArray, left_m: float = 0.0) -> FloatArray:
        """Returns the (n, 4) x, y, z, yaw at (n,) distances, moved across the path."""
        columns = [np.interp(along_m, self._at_m, column) for column in self._knots.T]
        x, y, z, yaw = columns
        return np.stack(
            [x - left_m * np.sin(yaw), y + left_m * np.cos(yaw), z, wrap_angle(yaw)], axis=-1
        )


def _extended(knot: FloatArray, length_m: float) -> FloatArray:
    """Returns the (1, 4) knot straight on from a (1, 4) knot."""
    moved = knot.copy()
    moved[:, 0] += length_m * np.cos(knot[:, 3])
    moved[:, 1] += length_m * np.sin(knot[:, 3])
    return moved
