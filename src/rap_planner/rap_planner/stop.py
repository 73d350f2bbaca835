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
        begin = self._phases[0]
        t = np.minimum(times_s, self.duration_s)
        braked = 0.5 * begin * np.maximum(t, 0.0) ** 2
        result: FloatArray = self.speed_mps * t - braked + self._changed(t, 3) / 6.0
        return result

    def after(self, time_s: float) -> tuple[float, float, float]:
        """Returns distance travelled, speed and deceleration at a time >= 0."""
        t = np.array([min(time_s, self.duration_s)])
        begin = self._phases[0]
        speed_mps = self.speed_mps - begin * t + 0.5 * self._changed(t, 2)
        deceleration_mps2 = begin - self._changed(t, 1)
        distance_m = self.distance_m(t)
        return float(distance_m[0]), max(0.0, float(speed_mps[0])), float(deceleration_mps2[0])

    def _changed(self, times_s: FloatArray, power: int) -> FloatArray:
        """Returns what the changes of jerk add up to: each its (t - a)^power from its time a on."""
        _, _, ramp_s, hold_s = self._phases
        changes = ((0.0, -1.0), (ramp_s, 1.0), (ramp_s + hold_s, 1.0), (self.duration_s, -1.0))
        shares = [sign * np.maximum(times_s - at_s, 0.0) ** power for at_s, sign in changes]
        result: FloatArray = self.jerk_mps3 * np.sum(shares, axis=0)
        return result


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop in progress: a path, and a braking profile that starts at `begin_ns`.

    Attributes:
        path_m: (n, 3) x, y, yaw (continuous).
        z_m: Height of the ground.
        begin_ns: When it begins.
        profile: How it brakes.
        begin_m: Distance along the path at which it begins.
    """

    path_m: FloatArray
    z_m: float
    begin_ns: int
    profile: StopProfile
    begin_m: float = 0.0

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
        # A trajectory says nothing of the time before its first pose.
        known_s = max(elapsed_s, 2.0 * STEP_S)
        around_m = followed.at(known_s + STEP_S * np.array([-1.0, 0.0, 1.0]))
        before_mps, after_mps = np.linalg.norm(np.diff(around_m[:, :2], axis=0), axis=1) / STEP_S
        braking_mps2 = float(before_mps - after_mps) / STEP_S
        speed_mps = 0.5 * float(before_mps + after_mps) + braking_mps2 * (known_s - elapsed_s)
        profile = StopProfile(
            speed_mps=max(0.0, speed_mps),
            deceleration_mps2=deceleration_mps2,
            jerk_mps3=jerk_mps3,
            begin_mps2=max(0.0, braking_mps2),
        )
        return cls(followed.at(times_s), followed.z_m, now_ns, profile)

    def anew(self, now_ns: int, deceleration_mps2: float, jerk_mps3: float) -> Stop:
        """Brakes otherwise from now on, along the same path, but at least as hard as now."""
        travelled_m, speed_mps, braking_mps2 = self.profile.after((now_ns - self.begin_ns) * 1e-9)
        profile = StopProfile(speed_mps, deceleration_mps2, jerk_mps3, max(0.0, braking_mps2))
        return Stop(self.path_m, self.z_m, now_ns, profile, self.begin_m + travelled_m)

    @property
    def fits(self) -> bool:
        """True if the path is long enough to stop on."""
        end_m = self.begin_m + self.profile.length_m
        return bool(end_m <= arcs_m(self.path_m)[-1] + END_TOLERANCE_M)

    @property
    def poses_m(self) -> FloatArray:
        """(M, 3) its first `STOP_HORIZON_S`, 0.1 s apart, where it begins included."""
        return self._at(np.concatenate([[0.0], dense_times(STOP_HORIZON_S)]))

    def trajectory(self, stamp_ns: int) -> Trajectory:
        """Returns the part of the stop that follows a stamp."""
        start_s = (stamp_ns - self.begin_ns) * 1e-9
        times_s = np.maximum(start_s + dense_times(STOP_HORIZON_S), 0.0)
        return Trajectory(stamp_ns, self._at(times_s), self.z_m)

    def _at(self, times_s: FloatArray) -> FloatArray:
        distances_m = self.begin_m + self.profile.distance_m(times_s)
        return np.asarray(along_paths(self.path_m[None], distances_m[None])[0])
