"""A jerk-limited stop along a path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_planner.trajectory import STEP_S, Trajectory, along_paths, arcs_m, dense_times
from rap_raster.frames import FloatArray

STOP_HORIZON_S = 5.0
"""Length of the published stop trajectory: that of the candidates."""

END_TOLERANCE_M = 0.2
"""A stop may end this far beyond its path, straight on."""


@dataclass(frozen=True, slots=True)
class StopProfile:
    """Distance travelled while braking to standstill.

    The deceleration ramps up to the limit, holds, and ramps back to zero as the vehicle stops, so
    that neither end has a jolt.

    Attributes:
        speed_mps: Speed at time 0, >= 0.
        deceleration_mps2: Largest deceleration, > 0.
        jerk_mps3: Largest change of it, > 0.
        begin_mps2: Deceleration at time 0, >= 0; where it is larger than the limit, it is the
            limit.
    """

    speed_mps: float
    deceleration_mps2: float
    jerk_mps3: float
    begin_mps2: float = 0.0

    @property
    def _phases(self) -> tuple[float, float, float, float]:
        """Deceleration at the begin and at the peak, times of ramp and hold."""
        speed, jerk = self.speed_mps, self.jerk_mps3
        # More than this cannot be let go of before the vehicle stands.
        begin = min(self.begin_mps2, float(np.sqrt(2.0 * jerk * speed)))
        limit = max(self.deceleration_mps2, begin)
        peak = min(limit, float(np.sqrt(jerk * speed + 0.5 * begin**2)))
        lost_mps = (2.0 * peak**2 - begin**2) / (2.0 * jerk)
        hold_s = max(0.0, (speed - lost_mps) / peak) if peak > 0.0 else 0.0
        return begin, peak, (peak - begin) / jerk, hold_s

    @property
    def duration_s(self) -> float:
        """Time to standstill."""
        _, peak, ramp_s, hold_s = self._phases
        return ramp_s + hold_s + peak / self.jerk_mps3

    @property
    def length_m(self) -> float:
        """Distance to standstill."""
        return float(self.distance_m(np.array([self.duration_s]))[0])

    def distance_m(self, times_s: FloatArray) -> FloatArray:
        """Returns the distance travelled at (M,) times; before 0 at constant speed."""
        begin, _, ramp_s, hold_s = self._phases
        t = np.minimum(times_s, self.duration_s)
        # A change of jerk at time a adds (t - a)^3 / 6 times the change from then on.
        changes = ((0.0, -1.0), (ramp_s, 1.0), (ramp_s + hold_s, 1.0), (self.duration_s, -1.0))
        cubic = sum(sign * np.maximum(t - at_s, 0.0) ** 3 for at_s, sign in changes)
        braked = 0.5 * begin * np.maximum(t, 0.0) ** 2
        result: FloatArray = self.speed_mps * t - braked + self.jerk_mps3 / 6.0 * cubic
        return result


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop in progress: a path, and a braking profile that starts at `begin_ns`.

    Attributes:
        path_m: (n, 3) x, y, yaw (continuous) from where the stop begins.
        z_m: Height of the ground.
        begin_ns: When it begins.
        profile: How it brakes.
    """

    path_m: FloatArray
    z_m: float
    begin_ns: int
    profile: StopProfile

    @classmethod
    def along(
        cls, followed: Trajectory, now_ns: int, deceleration_mps2: float, jerk_mps3: float
    ) -> Stop:
        """Brakes along a trajectory from where it is now, at its speed and deceleration there.

        A trajectory that brakes already is braked at least as hard.
        """
        elapsed_s = (now_ns - followed.stamp_ns) * 1e-9
        end_s = STEP_S * len(followed.poses_m)
        later_s = dense_times(end_s)
        times_s = np.concatenate([[elapsed_s], later_s[later_s > elapsed_s]])
        # A trajectory says nothing of the time before its stamp.
        around_m = followed.at(max(elapsed_s, STEP_S) + STEP_S * np.array([-1.0, 0.0, 1.0]))
        before_mps, after_mps = np.linalg.norm(np.diff(around_m[:, :2], axis=0), axis=1) / STEP_S
        profile = StopProfile(
            speed_mps=0.5 * float(before_mps + after_mps),
            deceleration_mps2=deceleration_mps2,
            jerk_mps3=jerk_mps3,
            begin_mps2=max(0.0, float(before_mps - after_mps) / STEP_S),
        )
        return cls(followed.at(times_s), followed.z_m, now_ns, profile)

    @property
    def fits(self) -> bool:
        """True if the path is long enough to stop on."""
        return bool(self.profile.length_m <= arcs_m(self.path_m)[-1] + END_TOLERANCE_M)

    @property
    def poses_m(self) -> FloatArray:
        """(M, 3) all of it, 0.1 s apart, where it begins included."""
        return np.concatenate([self.path_m[:1], self.trajectory(self.begin_ns).poses_m])

    def trajectory(self, stamp_ns: int) -> Trajectory:
        """Returns the part of the stop that follows a stamp."""
        start_s = (stamp_ns - self.begin_ns) * 1e-9
        times_s = np.maximum(start_s + dense_times(STOP_HORIZON_S), 0.0)
        poses_m = along_paths(self.path_m[None], self.profile.distance_m(times_s)[None])
        return Trajectory(stamp_ns, poses_m[0], self.z_m)
