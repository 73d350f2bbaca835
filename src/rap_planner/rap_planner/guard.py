"""The guard: decides in every cycle what the vehicle may follow.

It is separate from and much smaller than the planner: numpy only, no network, a process of its own.
It passes fresh and finite candidates, bridges a short outage with the last valid trajectory, and
brings the vehicle to a stop along it when the outage lasts. A check without its input reports
NOT_CHECKED, never OK. Stamps are passed in; the guard has no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from rap_planner.candidates import Candidates
from rap_planner.stop import StopProfile, along_path
from rap_planner.trajectory import dense_times, interpolate_poses
from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray

MAX_FUTURE_S = 0.1
"""Inputs stamped further ahead of the clock than this belong to another clock."""

STOP_HORIZON_S = 5.0
"""Length of the published stop trajectory: that of the candidates."""

ARC_STEP_S = 0.05
"""Sampling of the path that a stop follows; 1 m at 20 m/s."""


class GuardState(IntEnum):
    """States of the guard; codes of `rap_msgs/GuardState`."""

    WAITING = 0
    NOMINAL = 1
    HOLD_LAST = 2
    CONTROLLED_STOP = 3


class Check(IntEnum):
    """Result of one check; codes of `rap_msgs/GuardState`."""

    NOT_CHECKED = 0
    OK = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """Limits of the checks and of the reactions.

    Attributes:
        candidate_age_s: Oldest candidates that may be followed.
        odometry_age_s: Oldest odometry at which the vehicle counts as localised.
        hold_s: How long the last valid trajectory is held when the checks fail.
        resume_cycles: Good cycles in a row that end a controlled stop.
        deceleration_mps2: Of the controlled stop.
        jerk_mps3: Of the controlled stop.
    """

    candidate_age_s: float = 0.5
    odometry_age_s: float = 0.3
    hold_s: float = 0.3
    resume_cycles: int = 3
    deceleration_mps2: float = 2.5
    jerk_mps3: float = 1.5


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What a controller follows.

    Attributes:
        stamp_ns: Stamp of the input it was computed from.
        poses_m: (n, 3) x, y, yaw, map frame; pose k is at the stamp plus (k + 1) 0.1 s.
        z_m: Height of the ground under the ego, map frame.
    """

    stamp_ns: int
    poses_m: FloatArray
    z_m: float


@dataclass(frozen=True, slots=True)
class GuardDecision:
    """The outcome of one cycle.

    Attributes:
        state: State of the guard.
        reason: One line with the numbers behind the state.
        checks: Check name to result, in the order of evaluation.
        candidate_index: Index of the candidate that is followed, None if none.
        candidate_age_s: Age of the input of the trajectory, None if there is none.
        trajectory: What to follow, None while waiting.
    """

    state: GuardState
    reason: str
    checks: dict[str, Check]
    candidate_index: int | None
    candidate_age_s: float | None
    trajectory: Trajectory | None


class Guard:
    """The state machine."""

    def __init__(self, limits: GuardLimits) -> None:
        """Starts in WAITING."""
        self._limits = limits
        self._reset()

    def _reset(self) -> None:
        self._state = GuardState.WAITING
        self._last_now_ns: int | None = None
        self._valid: Candidates | None = None
        self._trajectory: Trajectory | None = None
        self._valid_until_ns = 0  # last cycle at which the checks passed
        self._good_cycles = 0
        self._stop: _Stop | None = None

    def step(
        self, now_ns: int, candidates: Candidates | None, odometry: EgoState | None
    ) -> GuardDecision:
        """Runs one cycle.

        Args:
            now_ns: The clock; when it jumps back (a replay that loops) the guard starts anew.
            candidates: The newest candidates, or None before the first.
            odometry: The newest ego state, or None before the first.
        """
        if self._last_now_ns is not None and now_ns < self._last_now_ns:
            self._reset()
        self._last_now_ns = now_ns
        checks, problem = self._run_checks(now_ns, candidates, odometry)
        if candidates is not None and problem is None:
            self._accept(now_ns, candidates)
        else:
            self._good_cycles = 0
        self._move_on(now_ns, problem)
        return self._decision(now_ns, checks, problem, odometry)

    def _run_checks(
        self, now_ns: int, candidates: Candidates | None, odometry: EgoState | None
    ) -> tuple[dict[str, Check], str | None]:
        """Returns the results and the text of the first failure, None if all passed."""
        limits = self._limits
        candidate_age_s = None if candidates is None else _age_s(now_ns, candidates.stamp_ns)
        odometry_age_s = None if odometry is None else _age_s(now_ns, odometry.stamp_ns)
        failures = {
            "candidates": "no candidates yet" if candidates is None else None,
            "finite": None if candidates is None else _finite_problem(candidates),
            "candidate_age": _age_problem("candidates", candidate_age_s, limits.candidate_age_s),
            "odometry_age": _age_problem("odometry", odometry_age_s, limits.odometry_age_s),
        }
        known = {
            "candidates": True,
            "finite": candidates is not None,
            "candidate_age": candidates is not None,
            "odometry_age": odometry is not None,
        }
        checks = {name: _result(known[name], failures[name]) for name in failures}
        checks |= {"drivable_area": Check.NOT_CHECKED, "collision": Check.NOT_CHECKED}
        problem = next((text for text in failures.values() if text is not None), None)
        if problem is None and odometry is None:
            problem = "no odometry yet"
        return checks, problem

    def _accept(self, now_ns: int, candidates: Candidates) -> None:
        self._good_cycles += 1
        self._valid_until_ns = now_ns
        if self._valid is not candidates:
            self._valid = candidates
            self._trajectory = _dense_trajectory(candidates)

    def _move_on(self, now_ns: int, problem: str | None) -> None:
        """Changes the state."""
        stopping = self._state is GuardState.CONTROLLED_STOP
        if problem is None:
            if not stopping or self._good_cycles >= self._limits.resume_cycles:
                self._state, self._stop = GuardState.NOMINAL, None
        elif self._valid is not None and not stopping:
            held_s = _age_s(now_ns, self._valid_until_ns)
            if held_s <= self._limits.hold_s:
                self._state = GuardState.HOLD_LAST
            else:
                self._state = GuardState.CONTROLLED_STOP
                self._stop = _Stop.begin(self._valid, now_ns, self._limits)

    def _decision(
        self,
        now_ns: int,
        checks: dict[str, Check],
        problem: str | None,
        odometry: EgoState | None,
    ) -> GuardDecision:
        valid = self._valid
        trajectory = self._trajectory
        if self._stop is not None and valid is not None:
            newest_ns = valid.stamp_ns if odometry is None else odometry.stamp_ns
            trajectory = self._stop.trajectory(max(newest_ns, valid.stamp_ns))
        waiting = self._state is GuardState.WAITING
        return GuardDecision(
            state=self._state,
            reason=self._reason(problem),
            checks=checks,
            candidate_index=None if valid is None or waiting else valid.best,
            candidate_age_s=None if valid is None else _age_s(now_ns, valid.stamp_ns),
            trajectory=None if waiting else trajectory,
        )

    def _reason(self, problem: str | None) -> str:
        if problem is not None:
            return problem
        if self._state is GuardState.CONTROLLED_STOP:
            return f"recovering: {self._good_cycles} of {self._limits.resume_cycles} good cycles"
        return "all checks with input passed"


@dataclass(frozen=True, slots=True)
class _Stop:
    """A stop in progress: a path, and a braking profile that starts at `begin_ns`."""

    path_m: FloatArray
    z_m: float
    begin_ns: int
    profile: StopProfile

    @classmethod
    def begin(cls, valid: Candidates, now_ns: int, limits: GuardLimits) -> _Stop:
        """Starts to brake where the last valid trajectory is now, at its speed there."""
        horizon_s = valid.dt_s * valid.poses_m.shape[1]
        elapsed_s = min(_age_s(now_ns, valid.stamp_ns), horizon_s)
        times_s = np.arange(elapsed_s, horizon_s + ARC_STEP_S, ARC_STEP_S)
        around_s = np.clip([elapsed_s - ARC_STEP_S, elapsed_s + ARC_STEP_S], 0.0, horizon_s)
        best = valid.poses_m[valid.best]
        ends = interpolate_poses(valid.ego, best, valid.dt_s, around_s)
        moved_m = float(np.linalg.norm(ends[1, :2] - ends[0, :2]))
        profile = StopProfile(
            moved_m / float(around_s[1] - around_s[0]), limits.deceleration_mps2, limits.jerk_mps3
        )
        path_m = interpolate_poses(valid.ego, best, valid.dt_s, times_s)
        return cls(path_m, valid.ego.z_m, now_ns, profile)

    def trajectory(self, stamp_ns: int) -> Trajectory:
        """Returns the part of the stop that follows a stamp."""
        start_s = (stamp_ns - self.begin_ns) * 1e-9
        times_s = np.maximum(start_s + dense_times(STOP_HORIZON_S), 0.0)
        poses_m = along_path(self.path_m, self.profile.distance_m(times_s))
        return Trajectory(stamp_ns, poses_m, self.z_m)


def _dense_trajectory(candidates: Candidates) -> Trajectory:
    best = candidates.poses_m[candidates.best]
    times_s = dense_times(candidates.dt_s * len(best))
    poses_m = interpolate_poses(candidates.ego, best, candidates.dt_s, times_s)
    return Trajectory(candidates.stamp_ns, poses_m, candidates.ego.z_m)


def _age_s(now_ns: int, stamp_ns: int) -> float:
    return (now_ns - stamp_ns) / 1e9


def _result(known: bool, failure: str | None) -> Check:
    if not known:
        return Check.NOT_CHECKED
    return Check.OK if failure is None else Check.FAILED


def _age_problem(what: str, age_s: float | None, limit_s: float) -> str | None:
    if age_s is None:
        return None
    if age_s > limit_s:
        return f"{what}: {age_s:.2f} s old, limit {limit_s:.2f} s (replay without use_sim_time?)"
    if age_s < -MAX_FUTURE_S:
        return f"{what}: stamped {-age_s:.2f} s ahead of the clock (use_sim_time set?)"
    return None


def _finite_problem(candidates: Candidates) -> str | None:
    best = candidates.best
    ego = candidates.ego
    if not np.isfinite(candidates.scores).all():
        return f"scores[{int(np.argmin(np.isfinite(candidates.scores)))}] is not finite"
    if not np.isfinite(candidates.poses_m[best]).all():
        return f"candidate {best} has poses that are not finite"
    if not np.isfinite([ego.x_m, ego.y_m, ego.z_m, ego.yaw_rad, ego.vx_mps]).all():
        return "ego state of the candidates is not finite"
    return None
