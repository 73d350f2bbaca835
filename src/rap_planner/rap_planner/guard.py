"""The guard: decides in every cycle what the vehicle may follow.

It is separate from and much smaller than the planner: numpy only, no network, a process of its own.
It follows the best candidate that passes all enforced checks, bridges a short outage with the last
valid trajectory, brings the vehicle to a stop along it when the outage lasts, and asks for the
vehicle's own minimum-risk manoeuvre where it cannot. It always has an answer; the last one is to
stand still. Stamps are passed in; the guard has no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial

import numpy as np
import numpy.typing as npt

from rap_planner.bicycle import (
    CREEP_MPS,
    BicycleLimits,
    Demand,
    demands,
    lateral_acceleration_mps2,
)
from rap_planner.candidates import Candidates
from rap_planner.checks import (
    COLLISION_STRIDE,
    DEFAULT_MODES,
    EMERGENCY_JERK_MPS3,
    MAX_FUTURE_S,
    BoolArray,
    Check,
    CheckLimits,
    Mode,
    Outcome,
    Situation,
    age_in_s,
    evaluate,
)
from rap_planner.collision import TOUCH, Clearance, ObjectMotion, Obstacles, contacts
from rap_planner.drivable import DrivableArea
from rap_planner.stop import STOP_HORIZON_S, Stop
from rap_planner.trajectory import (
    MAX_SPEED_MPS,
    STEP_S,
    Trajectory,
    arcs_m,
    dense_times,
    interpolate_poses,
)
from rap_raster.ego_history import JUMP_NS, EgoState
from rap_raster.frames import FloatArray
from rap_raster.observations import TrackedObjects

STANDING_MPS = 0.1
"""Slower is standing; wheel odometry is not more exact than that."""

MAX_OBJECTS, MAX_PAIRS = 128, 8192
"""The nearest ones are looked at, fewer with more than 64 candidates: more would take longer than a
cycle, and farther away than so many others nobody is met within the horizon."""

STOPS = ((0.0, True), (0.5, True), (1.0, True), (1.0, False))
"""Stops in the order in which they are tried: how near to the limit of the brakes, and whether the
clearance is to be kept."""

REROUTED_S, REROUTED_AGAIN_S = 1.0, 10.0
"""After a new route, plans need not go on where the followed one goes on for this long; not again
before the other time: some send the next stretch of a route every second."""

LATERAL_MARGIN = 1.05
"""Of the limit, in stops: their poses are interpolated between those of a plan at the limit."""

GOING_ON = 0.5
"""Candidates go on that get at least this share of the way of another one."""

MAX_YAW_RAD = 100.0
"""Headings are angles; larger numbers are broken ones."""


class GuardState(IntEnum):
    """States of the guard; codes of `rap_msgs/GuardState`."""

    WAITING = 0
    NOMINAL = 1
    HOLD_LAST = 2
    CONTROLLED_STOP = 3
    MRM_REQUEST = 4


STOPPING = (GuardState.CONTROLLED_STOP, GuardState.MRM_REQUEST)


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Checks and reactions.

    Attributes:
        limits: Of the checks.
        modes: Check name to mode.
        hold_s: How long the last valid trajectory is held when no candidate passes.
        resume_cycles: Good cycles in a row that end a controlled stop.
        deceleration_mps2: Of the controlled stop.
        jerk_mps3: Of the controlled stop.
        mrm_after_s: A controlled stop that lasts longer becomes a request for the vehicle's own
            minimum-risk manoeuvre.
        mrm_resume_cycles: Good cycles in a row, standing, that end such a request.
    """

    limits: CheckLimits = field(default_factory=CheckLimits)
    modes: Mapping[str, Mode] = field(default_factory=lambda: DEFAULT_MODES)
    hold_s: float = 0.3
    resume_cycles: int = 3
    deceleration_mps2: float = 2.5
    jerk_mps3: float = 1.5
    mrm_after_s: float = 10.0
    mrm_resume_cycles: int = 20


@dataclass(frozen=True, slots=True)
class GuardInputs:
    """The newest of everything; None for what never came.

    Attributes:
        candidates: Of the planner.
        odometry: The ego now.
        odometry_then: The ego at the stamp of the candidates.
        objects: Tracked objects.
        road: Drivable area of the map.
    """

    candidates: Candidates | None = None
    odometry: EgoState | None = None
    odometry_then: EgoState | None = None
    objects: TrackedObjects | None = None
    road: DrivableArea | None = None


@dataclass(frozen=True, slots=True)
class GuardDecision:
    """The outcome of one cycle.

    Attributes:
        state: State of the guard.
        reason: One line with the numbers behind the state.
        outcomes: Check name to outcome, in the order of evaluation.
        checks: Check name to result for the followed candidate, else for the best one.
        count: Number of candidates.
        candidate_index: Index of the candidate that was chosen in this cycle, None if none.
        candidate_age_s: Age of the input of the followed candidate, None if none.
        trajectory: What to follow.
        error: What went wrong within the guard itself; empty if nothing.
    """

    state: GuardState
    reason: str
    outcomes: dict[str, Outcome]
    checks: dict[str, Check]
    count: int
    candidate_index: int | None
    candidate_age_s: float | None
    trajectory: Trajectory
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Candidates made ready for the checks, once for all cycles that see them."""

    source: Candidates
    candidates: Candidates
    usable: BoolArray
    dense_m: FloatArray
    demands: list[Demand]

    @classmethod
    def of(cls, source: Candidates, then: EgoState | None, limits: BicycleLimits) -> _Plan:
        """Makes candidates ready; `then` is the ego at their stamp, as odometry tells it."""
        usable = _usable(source)
        sane = _sane(source, usable)
        times_s = dense_times(sane.dt_s * sane.poses_m.shape[1])
        begin = sane.ego
        if then is not None:  # Candidates do not tell how the vehicle turned and slid.
            begin = replace(begin, vy_mps=then.vy_mps, yaw_rate_radps=then.yaw_rate_radps)
        dense_m = interpolate_poses(
            begin, sane.poses_m, sane.dt_s, np.concatenate([[0.0], times_s])
        )
        asked = demands(dense_m, sane.ego.vx_mps, limits)
        return cls(source, sane, usable, dense_m, asked)

    def trajectory(self, index: int) -> Trajectory:
        sane = self.candidates
        return Trajectory(sane.stamp_ns, self.dense_m[index, 1:], sane.ego.z_m)


@dataclass(frozen=True, slots=True)
class _Choice:
    """What the checks say."""

    outcomes: dict[str, Outcome]
    chosen: int | None
    subject: int
    problem: str

    @property
    def too_near(self) -> bool:
        """True if somebody ahead is too near for whatever candidate."""
        headway = self.outcomes["headway"]
        if headway.mode is not Mode.ENFORCE or headway.verdict is None:
            return False
        return not headway.verdict.passed.any()

    @property
    def checks(self) -> dict[str, Check]:
        return {name: outcome.result(self.subject) for name, outcome in self.outcomes.items()}

    @property
    def crash(self) -> str:
        return "; ".join(outcome.crash for outcome in self.outcomes.values() if outcome.crash)


class Guard:
    """The state machine."""

    def __init__(self, settings: GuardSettings) -> None:
        """Starts in WAITING."""
        self._settings = settings
        self._reset()

    def _reset(self) -> None:
        self._state = GuardState.WAITING
        self._last_now_ns: int | None = None
        self._plan: _Plan | None = None
        self._odometry_then: EgoState | None = None  # at the stamp of the plan
        self._index = 0
        self._followed: Trajectory | None = None
        self._followed_plan: _Plan | None = None
        self._valid_until_ns = 0  # last cycle in which a candidate passed
        self._good_cycles = 0
        self._stop: Stop | None = None
        self._stop_problem = ""
        self._stop_room = TOUCH
        self._stopping_since_ns = 0
        self._objects: TrackedObjects | None = None
        self._motion = ObjectMotion()
        self._speed_mps = 0.0
        self._route_ns: int | None = None  # since when plans may leave what is followed
        self._rerouted = False  # since help was asked for
        self._lost_ns: int | None = None  # since when it should drive, and does not know where

    def new_route(self) -> None:
        """Lets plans go elsewhere, and lets a request for a minimum-risk manoeuvre end.

        A vehicle that stands forgets all; one that moves must not lose what it follows, least of
        all a stop.
        """
        now_ns = self._last_now_ns
        if self._speed_mps < STANDING_MPS or now_ns is None:
            self._reset()
            return
        self._rerouted = True
        if self._route_ns is None or age_in_s(now_ns, self._route_ns) >= REROUTED_AGAIN_S:
            self._route_ns = now_ns

    def step(self, now_ns: int, inputs: GuardInputs) -> GuardDecision:
        """Runs one cycle; never raises.

        Args:
            now_ns: The clock. When it jumps (a replay that loops, a process that was stopped), the
                guard starts anew, but goes on to ask for help if it did; a clock that is set back
                by less stands still.
            inputs: What is known.
        """
        if self._last_now_ns is not None:
            if abs(now_ns - self._last_now_ns) > JUMP_NS:
                self._jump(now_ns)
            else:
                now_ns = max(now_ns, self._last_now_ns)
        self._last_now_ns = now_ns
        inputs = replace(inputs, odometry=_finite_or_none(inputs.odometry))
        if inputs.odometry is not None:
            self._speed_mps = abs(inputs.odometry.vx_mps)
        try:
            with np.errstate(all="ignore"):  # Broken numbers are the checks' to find.
                return self._step(now_ns, inputs)
        except Exception as error:  # Whatever breaks in here, a controller gets an answer.
            return self._last_resort(now_ns, inputs, f"guard: {type(error).__name__}: {error}")

    def _jump(self, now_ns: int) -> None:
        """Forgets where the vehicle was, but not that it needs help, unless time begins again.

        A vehicle that moved, and is not told soon where to go on, needs help as well.
        """
        ahead = now_ns > (self._last_now_ns or 0)
        asked = ahead and self._state is GuardState.MRM_REQUEST
        moved = ahead and self._state is not GuardState.WAITING and self._speed_mps >= STANDING_MPS
        problem = self._stop_problem or "was asked for before the clock jumped"
        self._reset()
        if asked:
            self._state, self._stop_problem = GuardState.MRM_REQUEST, problem
        elif moved:
            self._lost_ns = now_ns

    def _step(self, now_ns: int, inputs: GuardInputs) -> GuardDecision:
        plan = self._planned(now_ns, inputs)
        obstacles = self._obstacles(now_ns, inputs.objects, inputs.odometry)
        if plan is not None and plan.source is inputs.candidates:
            self._odometry_then = inputs.odometry_then
        choice = self._choose(now_ns, plan, inputs, obstacles)
        if choice is not None and plan is not None and choice.chosen is not None:
            problem = ""
            self._good_cycles += 1
            self._valid_until_ns = now_ns
        else:
            problem = "no candidates yet" if choice is None else choice.problem
            self._good_cycles = 0
        pressing = choice is not None and choice.too_near
        self._move_on(now_ns, problem, inputs.odometry, obstacles, pressing=pressing)
        if not problem and plan is not None and choice is not None:
            self._follow(plan, choice)
        return self._decision(now_ns, problem, choice, inputs.odometry)

    def _obstacles(
        self, now_ns: int, objects: TrackedObjects | None, odometry: EgoState | None
    ) -> Obstacles | None:
        """Returns the objects if they are fresh; those of before replace none."""
        if objects is not None and (
            self._objects is None or _replaces(self._objects.stamp_ns, objects.stamp_ns, now_ns)
        ):
            self._objects = objects
        objects = self._objects
        if objects is None:
            return None
        age_s = age_in_s(now_ns, objects.stamp_ns)
        if not -MAX_FUTURE_S <= age_s <= self._settings.limits.objects_age_s:
            return None
        obstacles = self._motion.obstacles(objects)
        if odometry is None:
            return obstacles
        candidates = 1 if self._plan is None else len(self._plan.usable)
        most = min(MAX_OBJECTS, MAX_PAIRS // candidates)
        return obstacles.nearest(odometry.planar[:2], most)

    def _planned(self, now_ns: int, inputs: GuardInputs) -> _Plan | None:
        """Returns the candidates, made ready if they are new ones and none of before."""
        plan, candidates = self._plan, inputs.candidates
        if candidates is None or (plan is not None and plan.source is candidates):
            return plan
        if plan is None or _replaces(plan.source.stamp_ns, candidates.stamp_ns, now_ns):
            then = _finite_or_none(inputs.odometry_then)
            self._plan = _Plan.of(candidates, then, self._settings.limits.bicycle)
        return self._plan

    def _choose(
        self,
        now_ns: int,
        plan: _Plan | None,
        inputs: GuardInputs,
        obstacles: Obstacles | None,
    ) -> _Choice | None:
        """Runs the checks and picks the best candidate that passes all enforced ones."""
        if plan is None:
            return None
        steady = self._state in {GuardState.NOMINAL, GuardState.HOLD_LAST}
        if self._route_ns is not None and age_in_s(now_ns, self._route_ns) <= REROUTED_S:
            steady = False
        situation = Situation(
            now_ns=now_ns,
            candidates=plan.candidates,
            usable=plan.usable,
            dense_m=plan.dense_m,
            demands=plan.demands,
            odometry=inputs.odometry,
            odometry_then=self._odometry_then,
            obstacles=obstacles,
            road=inputs.road,
            followed=self._followed if steady else None,
        )
        outcomes = evaluate(situation, self._settings.limits, self._settings.modes)
        enforced = [
            outcome.verdict
            for outcome in outcomes.values()
            if outcome.mode is Mode.ENFORCE and outcome.verdict is not None
        ]
        order = np.argsort(-plan.candidates.scores, kind="stable")
        good = np.logical_and.reduce([plan.usable, *(verdict.passed for verdict in enforced)])
        best = int(order[0])
        if inputs.odometry is None:
            return _Choice(outcomes, None, best, "no odometry yet")
        preferred = np.logical_and.reduce(
            [good, *(verdict.preferred for verdict in enforced if verdict.preferred is not None)]
        )
        if good.any():
            chosen = _chosen(plan, order[good[order]], preferred, inputs.odometry.vx_mps)
            return _Choice(outcomes, chosen, chosen, "")
        texts = [verdict.text(best) for verdict in enforced if not verdict.passed[best]]
        return _Choice(outcomes, None, best, texts[0] if texts else "no candidate passes")

    def _follow(self, plan: _Plan, choice: _Choice) -> None:
        """Takes the chosen candidate as what is followed, unless a stop still goes on."""
        if self._state is not GuardState.NOMINAL or choice.chosen is None:
            return
        if plan is not self._followed_plan or self._index != choice.chosen:
            self._index, self._followed_plan = choice.chosen, plan
            self._followed = plan.trajectory(choice.chosen)

    def _move_on(
        self,
        now_ns: int,
        problem: str,
        odometry: EgoState | None,
        obstacles: Obstacles | None,
        *,
        pressing: bool,
    ) -> None:
        """Changes the state; where somebody ahead is too near, nothing is held or braked gently."""
        if not problem:
            self._lost_ns = None
            if self._may_resume(odometry):
                self._state, self._stop = GuardState.NOMINAL, None
        elif self._lost_ns is not None and self._state is GuardState.WAITING:
            if self._speed_mps < STANDING_MPS:
                self._lost_ns = None
            elif age_in_s(now_ns, self._lost_ns) > self._settings.hold_s:
                self._stop_problem = "is not known, the clock jumped while the vehicle moved"
                self._ask_for_help()
        elif self._followed is not None and self._state not in STOPPING:
            held_s = age_in_s(now_ns, self._valid_until_ns)
            left_s = dense_times(STOP_HORIZON_S) + age_in_s(now_ns, self._followed.stamp_ns)
            meets = self._contact(self._followed.at(left_s), now_ns, obstacles, TOUCH)
            if not pressing and held_s <= self._settings.hold_s and not meets:
                self._state = GuardState.HOLD_LAST
            else:
                self._state = GuardState.CONTROLLED_STOP
                self._stopping_since_ns = now_ns
                begin = partial(Stop.along, self._followed, now_ns)
                tried = STOPS[1:] if pressing else STOPS
                self._begin_stop(now_ns, begin, obstacles, tried)
        if self._stop is not None:
            self._watch_stop(now_ns, self._stop, obstacles)

    def _may_resume(self, odometry: EgoState | None) -> bool:
        if self._state is GuardState.CONTROLLED_STOP or (
            self._state is GuardState.MRM_REQUEST and self._rerouted
        ):
            return self._good_cycles >= self._settings.resume_cycles
        if self._state is GuardState.MRM_REQUEST:
            standing = odometry is not None and abs(odometry.vx_mps) < STANDING_MPS
            if not standing:
                self._good_cycles = 0
            return self._good_cycles >= self._settings.mrm_resume_cycles
        return True

    def _begin_stop(
        self,
        now_ns: int,
        stop: Callable[[float, float], Stop],
        obstacles: Obstacles | None,
        tried: Sequence[tuple[float, bool]] = STOPS,
    ) -> None:
        """Brakes as gently as the path and the objects allow, at most at the vehicle's limit.

        Where even that does not keep the clearance, it is enough to meet nobody.
        """
        hardest = self._settings.limits.bicycle.braking_mps2
        gentlest = min(self._settings.deceleration_mps2, hardest)
        for share, keeps_clear in tried:
            deceleration = gentlest + share * (hardest - gentlest)
            jerk = self._settings.jerk_mps3 + share * (
                max(EMERGENCY_JERK_MPS3, self._settings.jerk_mps3) - self._settings.jerk_mps3
            )
            self._stop = stop(deceleration, jerk)
            self._stop_room = self._settings.limits.clearance if keeps_clear else TOUCH
            self._stop_problem = self._problem_of(self._stop, now_ns, obstacles)
            if not self._stop_problem:
                return

    def _problem_of(self, stop: Stop, now_ns: int, obstacles: Obstacles | None) -> str:
        """Returns why a stop does not do, empty if it does."""
        if not stop.fits:
            return f"needs {stop.profile.length_m:.1f} m, which is more than the path has"
        # Braked less than the plan would have been, it comes faster into the plan's bends.
        aside_mps2 = float(lateral_acceleration_mps2(stop.poses_m[None])[0])
        limit_mps2 = self._settings.limits.bicycle.lateral_acceleration_mps2
        if aside_mps2 > LATERAL_MARGIN * limit_mps2:
            return f"has {aside_mps2:.2f} m/s2 across, limit {limit_mps2:.2f}"
        stands_s = stop.profile.duration_s - age_in_s(now_ns, stop.begin_ns)
        poses_m = stop.trajectory(now_ns).poses_m
        return self._contact(poses_m, now_ns, obstacles, self._stop_room, stands_s)

    def _contact(
        self,
        poses_m: FloatArray,
        now_ns: int,
        obstacles: Obstacles | None,
        room: Clearance,
        least_s: float = 0.0,
    ) -> str:
        """Returns whom a vehicle meets that follows (M, 3) poses, the first one due in 0.1 s.

        It is looked for up to the horizon of the check, and longer where that is asked for.
        """
        if obstacles is None or self._settings.modes["collision"] is not Mode.ENFORCE:
            return ""
        limits = self._settings.limits
        late_m = limits.response.driven(poses_m[None], self._speed_mps)
        horizon_s = max(limits.collision_horizon_s, least_s)
        looked_at = slice(0, round(horizon_s / STEP_S), COLLISION_STRIDE)
        times_s = dense_times(STOP_HORIZON_S)[looked_at]
        found = contacts(
            late_m[:, looked_at],
            times_s + age_in_s(now_ns, obstacles.stamp_ns),
            limits.body,
            obstacles,
            room,
        )
        return f"meets object {found.ids[0]} in {found.times_s[0]:.1f} s" if found.found[0] else ""

    def _watch_stop(self, now_ns: int, stop: Stop, obstacles: Obstacles | None) -> None:
        """Brakes harder where somebody gets in the way, and asks for help where that is no use."""
        if not self._stop_problem and self._problem_of(stop, now_ns, obstacles):
            self._begin_stop(now_ns, partial(stop.anew, now_ns), obstacles)
        too_long = age_in_s(now_ns, self._stopping_since_ns) > self._settings.mrm_after_s
        if self._state is GuardState.CONTROLLED_STOP and (self._stop_problem or too_long):
            self._ask_for_help()

    def _ask_for_help(self) -> None:
        self._state, self._rerouted = GuardState.MRM_REQUEST, False

    def _decision(
        self, now_ns: int, problem: str, choice: _Choice | None, odometry: EgoState | None
    ) -> GuardDecision:
        followed = self._followed if self._state is not GuardState.WAITING else None
        return GuardDecision(
            state=self._state,
            reason=self._reason(problem, choice),
            outcomes={} if choice is None else choice.outcomes,
            checks={} if choice is None else choice.checks,
            count=0 if self._plan is None else len(self._plan.usable),
            candidate_index=self._index if self._state is GuardState.NOMINAL else None,
            candidate_age_s=None if followed is None else age_in_s(now_ns, followed.stamp_ns),
            trajectory=self._answer(now_ns, followed, odometry),
            error="" if choice is None else choice.crash,
        )

    def _answer(
        self, now_ns: int, followed: Trajectory | None, odometry: EgoState | None
    ) -> Trajectory:
        if followed is None:
            return self._standing(now_ns, odometry)
        if self._stop is None:
            return followed
        # Before its begin there was no stop: odometry may be older than that.
        fresh = self._fresh(now_ns, odometry)
        stamp_ns = now_ns if fresh is None else fresh.stamp_ns
        return self._stop.trajectory(max(stamp_ns, self._stop.begin_ns))

    def _standing(self, now_ns: int, odometry: EgoState | None) -> Trajectory:
        fresh = self._fresh(now_ns, odometry)
        return Trajectory.standing(now_ns if fresh is None else fresh.stamp_ns, fresh)

    def _fresh(self, now_ns: int, odometry: EgoState | None) -> EgoState | None:
        """Returns odometry that is not too old to say where the vehicle is."""
        if odometry is not None:
            age_s = age_in_s(now_ns, odometry.stamp_ns)
            if -MAX_FUTURE_S <= age_s <= self._settings.limits.odometry_age_s:
                return odometry
        return None

    def _reason(self, problem: str, choice: _Choice | None) -> str:
        if self._state is GuardState.MRM_REQUEST:
            limit_s = self._settings.mrm_after_s
            why = f"stop {self._stop_problem or f'lasts longer than {limit_s:.1f} s'}"
            needed = self._settings.mrm_resume_cycles
            return f"{why}; {problem or f'{self._good_cycles} of {needed} good cycles, standing'}"
        if problem:
            return problem
        if self._state is GuardState.CONTROLLED_STOP:
            return f"recovering: {self._good_cycles} of {self._settings.resume_cycles} good cycles"
        return "all checks with input passed" if choice is not None else ""

    def _last_resort(self, now_ns: int, inputs: GuardInputs, error: str) -> GuardDecision:
        """Stands still and asks for help."""
        self._ask_for_help()
        self._stop_problem, self._good_cycles = error, 0
        self._followed, self._followed_plan, self._stop, self._plan = None, None, None, None
        return GuardDecision(
            state=self._state,
            reason=error,
            outcomes={},
            checks={},
            count=0,
            candidate_index=None,
            candidate_age_s=None,
            trajectory=self._standing(now_ns, inputs.odometry),
            error=error,
        )


def _chosen(
    plan: _Plan, passing: npt.NDArray[np.intp], preferred: BoolArray, speed_mps: float
) -> int:
    """Returns the first of those that pass, best scored first, with more than they need.

    Braking for that is worth while only as long as there is speed to lose: who hardly moves and
    brakes stays for ever where every way on needs what the checks allow.
    """
    better = preferred[passing]
    if speed_mps < CREEP_MPS:
        ways_m = arcs_m(plan.dense_m[passing])[:, -1]
        better &= ways_m >= GOING_ON * ways_m[0]
    return int(passing[better.argmax()])  # Where none is better, the first.


def _replaces(present_ns: int, stamp_ns: int, now_ns: int) -> bool:
    """True if what has a stamp may take the place of what is there.

    Not what was overtaken by it, nor what is stamped ahead of the clock, unless that is true of
    both; what lies far back is from after a jump of the clock.
    """
    latest_ns = now_ns + round(MAX_FUTURE_S * 1e9)
    return (
        present_ns > latest_ns
        or present_ns <= stamp_ns <= latest_ns
        or present_ns - stamp_ns >= JUMP_NS
    )


def _finite_or_none(ego: EgoState | None) -> EgoState | None:
    if ego is None:
        return None
    motion = ego.vx_mps, ego.vy_mps, ego.yaw_rate_radps
    return ego if np.isfinite([*ego.planar, ego.z_m, *motion]).all() else None


def _usable(candidates: Candidates) -> BoolArray:
    """Returns (K,) which candidates are numbers that a vehicle could reach."""
    ego, poses_m = candidates.ego, candidates.poses_m
    if _finite_or_none(ego) is None:
        return np.zeros(len(poses_m), dtype=np.bool_)
    times_s = candidates.dt_s * np.arange(1, poses_m.shape[1] + 1)
    away_m = np.linalg.norm(poses_m[..., :2] - ego.planar[:2], axis=-1)
    good = np.isfinite(poses_m).all(axis=(1, 2)) & np.isfinite(candidates.scores)
    good &= (away_m <= MAX_SPEED_MPS * times_s).all(axis=1)
    result: BoolArray = good & (np.abs(poses_m[..., 2]) <= MAX_YAW_RAD).all(axis=1)
    return result


def _sane(candidates: Candidates, usable: BoolArray) -> Candidates:
    """Replaces what is not usable by an ego that stands and a score below all others."""
    ego = candidates.ego
    if _finite_or_none(ego) is None:
        ego = EgoState(ego.stamp_ns, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    poses_m = np.where(usable[:, None, None], candidates.poses_m, ego.planar)
    scores = np.where(usable, candidates.scores, -np.inf).astype(np.float32)
    return replace(candidates, ego=ego, poses_m=poses_m, scores=scores)
