"""A jerk-limited stop along a path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_raster.frames import FloatArray


@dataclass(frozen=True, slots=True)
class StopProfile:
    """Distance travelled while braking from constant speed to standstill.

    The acceleration ramps down to the limit, holds, and ramps back to zero as the vehicle stops,
    so that neither end has a jolt.

    Attributes:
        speed_mps: Speed at time 0, >= 0.
        deceleration_mps2: Largest deceleration, > 0.
        jerk_mps3: Largest change of it, > 0.
    """

    speed_mps: float
    deceleration_mps2: float
    jerk_mps3: float

    @property
    def _phases_s(self) -> tuple[float, float]:
        """Length of one ramp and of the hold between the ramps."""
        full_ramp_s = self.deceleration_mps2 / self.jerk_mps3
        ramp_s = min(full_ramp_s, float(np.sqrt(self.speed_mps / self.jerk_mps3)))
        left_mps = self.speed_mps - self.jerk_mps3 * ramp_s**2
        return ramp_s, max(0.0, left_mps / self.deceleration_mps2)

    @property
    def duration_s(self) -> float:
        """Time to standstill."""
        ramp_s, hold_s = self._phases_s
        return 2 * ramp_s + hold_s

    def distance_m(self, times_s: FloatArray) -> FloatArray:
        """Returns the distance travelled at (M,) times; before 0 at constant speed."""
        ramp_s, hold_s = self._phases_s
        t = np.minimum(times_s, self.duration_s)
        # A change of jerk at time a adds (t - a)^3 / 6 times the change from then on.
        changes = ((0.0, -1.0), (ramp_s, 1.0), (ramp_s + hold_s, 1.0), (self.duration_s, -1.0))
        cubic = sum(sign * np.maximum(t - at_s, 0.0) ** 3 for at_s, sign in changes)
        result: FloatArray = self.speed_mps * t + self.jerk_mps3 / 6.0 * cubic
        return result


def along_path(path_m: FloatArray, distances_m: FloatArray) -> FloatArray:
    """Returns the poses at given distances along a path.

    Args:
        path_m: (n, 3) x, y, yaw; yaw continuous.
        distances_m: (M,) from the first point; past the end the path goes on straight ahead.

    Returns:
        (M, 3) x, y, yaw.
    """
    steps_m = np.linalg.norm(np.diff(path_m[:, :2], axis=0), axis=1)
    arc_m = np.concatenate([[0.0], np.cumsum(steps_m)])
    result = np.stack([np.interp(distances_m, arc_m, column) for column in path_m.T], axis=1)
    beyond_m = np.maximum(distances_m - arc_m[-1], 0.0)
    yaw_rad = path_m[-1, 2]
    result[:, 0] += beyond_m * np.cos(yaw_rad)
    result[:, 1] += beyond_m * np.sin(yaw_rad)
    return result
