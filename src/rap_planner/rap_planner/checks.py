"""The checks of the guard: each looks at all candidates at once and needs no other.

A check returns which candidates pass, or None where it lacks its input: then it is NOT_CHECKED,
never OK. What a check raises is contained: all candidates fail it, and the text says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from rap_planner.bicycle import BicycleLimits, Demand
from rap_planner.candidates import Candidates
from rap_planner.collision import Clearance, Obstacles, contacts
from rap_planner.drivable import DrivableArea
from rap_planner.response import Response, braked
from rap_planner.trajectory import STEP_S, Trajectory
from rap_raster.ego_history import EgoState
from rap_raster.features import FeatureSource
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.vehicle import PACIFICA, VehicleDimensions

BoolArray = npt.NDArray[np.bool_]

MAX_FUTURE_S = 0.1
"""Inputs stamped further ahead of the clock than this belong to another clock."""

COLLISION_STRIDE, ROAD_STRIDE = 2, 2
"""Every second pose is looked at: 0.2 s, in which a car at 20 m/s moves less than its length."""

CYCLE_S = 0.1
"""What is followed is looked at again by then: two cycles of the guard."""

EMERGENCY_JERK_MPS3 = 15.0
"""Of a stop at the braking limit: brakes of a car reach it in about half a second."""

SETTLED = 3.0
"""Delays after which a vehicle does as it is told, but for a twentieth."""

SHIFT_GAIN_MPS2 = 2.0
"""Who gains more speed than a car usually does leaps ahead, if the followed trajectory does not."""

ROAD_STEP_M, ROAD_STEPS = 0.3, 5
"""How finely it is told how far off the road somebody is, and up to where."""

TOLERANCE = 1e-6
"""Relative; a limit itself passes."""


class Check(IntEnum):
    """Result of one check; codes of `rap_msgs/GuardState`."""

    NOT_CHECKED = 0
    OK = 1
    FAILED = 2


class Mode(IntEnum):
    """What a check may do; codes of `rap_msgs/GuardState`."""

    OFF = 0
    SHADOW = 1
    ENFORCE = 2


@dataclass(frozen=True, slots=True)
class CheckLimits:
    """Limits of the checks.

    Attributes:
        candidate_age_s: Oldest candidates that may be followed.
        odometry_age_s: Oldest odometry at which the vehicle counts as localised.
        objects_age_s: Oldest objects that still say where somebody is.
        start_position_m: Between where candidates begin and where the ego was then.
        start_heading_rad: The same for the heading.
        start_speed_mps: The same for the speed.
        shift_horizon_s: How far ahead candidates are compared with what is followed.
        shift_lateral_m: Largest distance to either side of its path.
        shift_longitudinal_m: Largest lead over it at the same times of who gains speed.
        road_horizon_s: How far ahead the ego must be on the road.
        road_margin_m: How far its corners may reach over the edge.
        collision_horizon_s: How far ahead boxes must not meet.
        response_delay_s: How late the vehicle follows changes of speed: who brakes comes farther.
        response_preview_s: How far ahead its controller looks at speeds.
        clearance_ahead_m: Room to be kept before and behind the ego ...
        clearance_aside_m: ... and to its sides.
        missing_cameras: How many camera slots may have no features at all.
        alignment_distance: Largest distance between camera and raster features.
        uncertainty: Largest uncertainty of the planner, 0 to 1.
        bicycle: What the vehicle can do.
        body: Size of the vehicle.
    """

    candidate_age_s: float = 0.5
    odometry_age_s: float = 0.3
    objects_age_s: float = 0.5
    start_position_m: float = 0.5
    start_heading_rad: float = 0.2
    start_speed_mps: float = 1.5
    shift_horizon_s: float = 1.0
    shift_lateral_m: float = 1.0
    shift_longitudinal_m: float = 3.0
    road_horizon_s: float = 3.0
    road_margin_m: float = 0.3
    collision_horizon_s: float = 3.0
    response_delay_s: float = 0.3
    response_preview_s: float = 0.0
    clearance_ahead_m: float = 1.0
    clearance_aside_m: float = 0.2
    missing_cameras: int = 0
    alignment_distance: float = 1.0
    uncertainty: float = 0.6
    bicycle: BicycleLimits = field(default_factory=BicycleLimits)
    body: VehicleDimensions = PACIFICA

    @property
    def response(self) -> Response:
        """What the vehicle makes of a trajectory."""
        return Response(self.response_delay_s, self.response_preview_s)

    @property
    def clearance(self) -> Clearance:
        """Room to be kept around the ego."""
        return Clearance(self.clearance_ahead_m, self.clearance_aside_m)


@dataclass(frozen=True, slots=True)
class Situation:
    """What one cycle knows.

    Attributes:
        now_ns: The clock.
        candidates: The newest; poses and scores that are not usable were replaced, see `usable`.
        usable: (K,) False where a pose or the score is not finite or out of reach.
        dense_m: (K, M + 1, 3) the candidates 0.1 s apart, from the pose at their stamp on.
        demands: What these ask of the vehicle.
        odometry: The newest.
        odometry_then: The ego at the candidates' stamp, as odometry tells it.
        obstacles: Objects, or None without fresh ones.
        road: Drivable area, or None without a map.
        followed: What is followed, or None where there is nothing to be continuous with.
    """

    now_ns: int
    candidates: Candidates
    usable: BoolArray
    dense_m: FloatArray
    demands: list[Demand]
    odometry: EgoState | None
    odometry_then: EgoState | None
    obstacles: Obstacles | None
    road: DrivableArea | None
    followed: Trajectory | None

    @property
    def now_step(self) -> int:
        """Index into `dense_m` of the pose that is due now."""
        age_s = age_in_s(self.now_ns, self.candidates.stamp_ns)
        return int(np.clip(round(age_s / STEP_S), 0, self.dense_m.shape[1] - 1))

    def ahead(self, horizon_s: float, stride: int) -> tuple[FloatArray, FloatArray]:
        """Returns (K, m, 3) poses from now on, and (m,) their times after the stamp."""
        first = self.now_step
        last = first + round(horizon_s / STEP_S)
        steps = np.arange(first, min(last + 1, self.dense_m.shape[1]), stride)
        return self.dense_m[:, steps], steps * STEP_S

    @property
    def ego(self) -> EgoState:
        """By odometry; without it, as the candidates have it."""
        return self.odometry or self.candidates.ego

    def driven(self, limits: CheckLimits) -> tuple[FloatArray, FloatArray]:
        """Returns where the vehicle will be if it follows candidates.

        Returns:
            poses_m: (K, m, 3) from now on, `COLLISION_STRIDE` steps apart.
            times_s: (m,) their times after the stamp of the obstacles.
        """
        horizon_s = limits.collision_horizon_s
        poses_m, _ = self.ahead(horizon_s + limits.response_preview_s, 1)
        return self._late(poses_m, horizon_s, limits)

    def stopped(self, limits: CheckLimits) -> tuple[FloatArray, FloatArray]:
        """As `driven`, but it brakes as hard as it can from the next cycle on, until it stands."""
        braking_mps2, response = limits.bicycle.braking_mps2, limits.response
        begin_s = CYCLE_S + 0.5 * braking_mps2 / EMERGENCY_JERK_MPS3
        stands_s = begin_s + abs(self.ego.vx_mps) / braking_mps2 + SETTLED * response.delay_s
        horizon_s = max(limits.collision_horizon_s, stands_s)
        poses_m, _ = self.ahead(horizon_s + response.preview_s, 1)
        poses_m = braked(poses_m, begin_s, braking_mps2, horizon_s + response.preview_s)
        return self._late(poses_m, horizon_s, limits)

    def _late(
        self, poses_m: FloatArray, horizon_s: float, limits: CheckLimits
    ) -> tuple[FloatArray, FloatArray]:
        poses_m = limits.response.driven(poses_m, self.ego.vx_mps)
        poses_m = poses_m[:, : round(horizon_s / STEP_S) + 1 : COLLISION_STRIDE]
        obstacles_ns = self.now_ns if self.obstacles is None else self.obstacles.stamp_ns
        first_s = age_in_s(self.candidates.stamp_ns, obstacles_ns) + self.now_step * STEP_S
        times_s: FloatArray = first_s + COLLISION_STRIDE * STEP_S * np.arange(
            poses_m.shape[1], dtype=np.float64
        )
        return poses_m, times_s

    def gained_m(self, horizon_s: float) -> FloatArray:
        """Returns (K,) how much farther than at the present speed candidates get from now on."""
        poses_m, times_s = self.ahead(horizon_s, 1)
        ways_m = np.linalg.norm(np.diff(poses_m[..., :2], axis=1), axis=-1).sum(axis=1)
        gained: FloatArray = ways_m - self.ego.vx_mps * (times_s[-1] - times_s[0])
        return gained


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says about K candidates.

    Attributes:
        passed: (K,) which pass.
        text: Why a candidate that does not pass fails, with the numbers.
        preferred: (K,) which are better than they have to be; None: no difference is made.
    """

    passed: BoolArray
    text: Callable[[int], str]
    preferred: BoolArray | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check in one cycle.

    Attributes:
        mode: What it may do.
        verdict: What it says, None if it was not checked.
        crash: Why it could not say anything although it had its input; empty if it could.
    """

    mode: Mode
    verdict: Verdict | None
    crash: str = ""

    def result(self, index: int) -> Check:
        """Returns what it says about one candidate."""
        if self.verdict is None:
            return Check.NOT_CHECKED
        return Check.OK if self.verdict.passed[index] else Check.FAILED


def evaluate(
    situation: Situation, limits: CheckLimits, modes: Mapping[str, Mode]
) -> dict[str, Outcome]:
    """Runs all checks that are not off; never raises.

    Args:
        situation: What is known.
        limits: Limits of the checks.
        modes: Check name to mode.
    """
    return {name: _outcome(name, situation, limits, modes[name]) for name in CHECKS}


def age_in_s(now_ns: int, stamp_ns: int) -> float:
    """Returns the age of a stamp; negative if it lies ahead."""
    return (now_ns - stamp_ns) / 1e9


def _outcome(name: str, situation: Situation, limits: CheckLimits, mode: Mode) -> Outcome:
    if mode is Mode.OFF:
        return Outcome(mode, None)
    try:
        return Outcome(mode, CHECKS[name](situation, limits))
    except Exception as error:  # A broken check must stop the vehicle, not the guard.
        text = f"{name}: check failed to run: {type(error).__name__}: {error}"
        nobody = np.zeros(len(situation.usable), dtype=np.bool_)
        return Outcome(mode, Verdict(nobody, lambda _: text), text)


def _of_all(situation: Situation, problem: str | None) -> Verdict:
    """Returns a verdict that is the same for all candidates."""
    return Verdict(np.full(len(situation.usable), problem is None), lambda _: problem or "")


def _finite(situation: Situation, _: CheckLimits) -> Verdict:
    return Verdict(
        situation.usable,
        lambda k: f"candidate {k}: poses or score not finite, or out of reach",
    )


def _age_problem(what: str, age_s: float, limit_s: float) -> str | None:
    if age_s > limit_s:
        return f"{what}: {age_s:.2f} s old, limit {limit_s:.2f} s (replay without use_sim_time?)"
    if age_s < -MAX_FUTURE_S:
        return f"{what}: stamped {-age_s:.2f} s ahead of the clock (use_sim_time set?)"
    return None


def _candidate_age(situation: Situation, limits: CheckLimits) -> Verdict:
    age_s = age_in_s(situation.now_ns, situation.candidates.stamp_ns)
    return _of_all(situation, _age_problem("candidates", age_s, limits.candidate_age_s))


def _odometry_age(situation: Situation, limits: CheckLimits) -> Verdict | None:
    if situation.odometry is None:
        return None
    age_s = age_in_s(situation.now_ns, situation.odometry.stamp_ns)
    return _of_all(situation, _age_problem("odometry", age_s, limits.odometry_age_s))


def _start(situation: Situation, limits: CheckLimits) -> Verdict | None:
    """Candidates begin where the ego was, by odometry, at their stamp."""
    there, begin = situation.odometry_then, situation.candidates.ego
    if there is None:
        return None
    away_m = math.hypot(begin.x_m - there.x_m, begin.y_m - there.y_m, begin.z_m - there.z_m)
    turned_rad = abs(float(wrap_angle(begin.yaw_rad - there.yaw_rad)))
    faster_mps = abs(begin.vx_mps - there.vx_mps)
    for name, unit, value, limit in (
        ("position", "m", away_m, limits.start_position_m),
        ("heading", "rad", turned_rad, limits.start_heading_rad),
        ("speed", "m/s", faster_mps, limits.start_speed_mps),
    ):
        if not value <= limit:
            text = f"start: {name} {value:.2f} {unit} from odometry, limit {limit:.2f}"
            return _of_all(situation, text)
    return _of_all(situation, None)


def _feasible(situation: Situation, _: CheckLimits) -> Verdict:
    asked = situation.demands
    within = np.stack([demand.values <= demand.limit * (1 + TOLERANCE) for demand in asked])

    def text(k: int) -> str:
        return f"candidate {k}: {asked[int(np.argmin(within[:, k]))].text(k)}"

    return Verdict(np.logical_and.reduce(within, axis=0), text)


def _shift(situation: Situation, limits: CheckLimits) -> Verdict | None:
    """Candidates keep to the path of the followed trajectory, and do not leap ahead of it.

    Who follows a plan that brakes is far behind one that goes on: a lead counts only if speed is
    gained as well. Braking is left to `feasibility`.
    """
    if situation.followed is None:
        return None
    horizon_s = limits.shift_horizon_s
    poses_m, times_s = situation.ahead(horizon_s, 1)
    later_s = times_s - age_in_s(situation.followed.stamp_ns, situation.candidates.stamp_ns)
    ahead_m = _in_frames(situation.followed.at(later_s), poses_m)[..., 0].max(axis=1)
    gained_m = situation.gained_m(horizon_s)
    across_m = _across(situation.followed.poses_m, poses_m)
    most_m = 0.5 * SHIFT_GAIN_MPS2 * horizon_s**2

    def text(k: int) -> str:
        return (
            f"candidate {k}: shift of {across_m[k]:.2f} m across, or {ahead_m[k]:.2f} m ahead "
            f"while gaining {gained_m[k]:.2f} m, limits {limits.shift_lateral_m:.2f}, "
            f"{limits.shift_longitudinal_m:.2f} and {most_m:.2f}"
        )

    leaps = (ahead_m > limits.shift_longitudinal_m) & (gained_m > most_m)
    return Verdict((across_m <= limits.shift_lateral_m) & ~leaps, text)


def _in_frames(frames_m: FloatArray, poses_m: FloatArray) -> FloatArray:
    """Returns (..., 2) x ahead and y to the left of poses, each in the frame of its own pose."""
    offsets_m = poses_m[..., :2] - frames_m[..., :2]
    cos, sin = np.cos(frames_m[..., 2]), np.sin(frames_m[..., 2])
    ahead_m = cos * offsets_m[..., 0] + sin * offsets_m[..., 1]
    left_m = cos * offsets_m[..., 1] - sin * offsets_m[..., 0]
    return np.stack([ahead_m, left_m], axis=-1)


def _across(path_m: FloatArray, poses_m: FloatArray) -> FloatArray:
    """Returns (K,) how far (K, m, 3) poses get to the side of a path, which goes on straight."""
    offsets_m = poses_m[:, :, None, :2] - path_m[:, :2]
    nearest = (offsets_m**2).sum(axis=-1).argmin(axis=-1)
    across_m: FloatArray = np.abs(_in_frames(path_m[nearest], poses_m)[..., 1]).max(axis=1)
    return across_m


def _drivable_area(situation: Situation, limits: CheckLimits) -> Verdict | None:
    """The ego gets no farther off the road than the margin, or than it is; best is no farther."""
    if situation.road is None:
        return None
    poses_m, times_s = situation.ahead(limits.road_horizon_s, ROAD_STRIDE)
    levels = _levels_off_road(poses_m, situation.road, limits)
    nearest = np.minimum.accumulate(levels, axis=1)
    before = np.concatenate([levels[:, :1], nearest[:, :-1]], axis=1)
    farther = levels > np.maximum(before, 1)
    first = farther.argmax(axis=1)

    def text(k: int) -> str:
        return f"candidate {k}: off the road in {times_s[first[k]] - times_s[0]:.1f} s"

    preferred = np.logical_not(np.any(levels > before, axis=1))
    return Verdict(np.logical_not(np.any(farther, axis=1)), text, np.asarray(preferred))


def _levels_off_road(
    poses_m: FloatArray, road: DrivableArea, limits: CheckLimits
) -> npt.NDArray[np.intp]:
    """Returns (K, M) how far corners of the ego are off the road.

    0: not at all, 1: by the margin at most, then one more for every `ROAD_STEP_M`; with the middle
    off the road too, one more for every corner.
    """
    margins_m = [0.0, *(limits.road_margin_m + ROAD_STEP_M * np.arange(ROAD_STEPS))]
    levels = np.zeros(poses_m.shape[:2], dtype=np.intp)
    for level, margin_m in enumerate(margins_m):
        off = levels == level
        if not off.any():
            break
        corners_m = _corners(poses_m[off], limits.body, margin_m)
        levels[off] += ~road.contains(corners_m).all(axis=-1)
    deep = levels == len(margins_m)
    levels[deep] += (~road.contains(_corners(poses_m[deep], limits.body, 0.0))).sum(axis=-1)
    return levels


def _collision(situation: Situation, limits: CheckLimits) -> Verdict | None:
    if situation.obstacles is None:
        return None
    poses_m, times_s = situation.driven(limits)
    found = contacts(poses_m, times_s, limits.body, situation.obstacles, limits.clearance)

    def text(k: int) -> str:
        return f"candidate {k}: meets object {found.ids[k]} in {found.times_s[k]:.1f} s"

    return Verdict(~found.found, text)


def _headway(situation: Situation, limits: CheckLimits) -> Verdict | None:
    """Who drives ahead may brake as hard as the ego can: a stop behind it must stay possible.

    The longitudinal rule of Responsibility-Sensitive Safety (Shalev-Shwartz et al., "On a Formal
    Model of Safe and Scalable Self-driving Cars", 2017, definition 1), along the path of each
    candidate and for boxes instead of points.
    """
    if situation.obstacles is None:
        return None
    leaders = situation.obstacles.leaders(situation.ego.planar, limits.bicycle.braking_mps2)
    if not len(leaders.ids):
        return _of_all(situation, None)
    poses_m, times_s = situation.stopped(limits)
    found = contacts(poses_m, times_s, limits.body, leaders)

    def text(k: int) -> str:
        return f"candidate {k}: could not stop behind object {found.ids[k]} if that braked"

    return Verdict(~found.found, text)


def _cameras(situation: Situation, limits: CheckLimits) -> Verdict | None:
    sources = situation.candidates.camera_sources
    if not len(sources):
        return None
    missing = int((sources == FeatureSource.MISSING).sum())
    problem = f"{missing} of {len(sources)} cameras are missing, limit {limits.missing_cameras}"
    return _of_all(situation, problem if missing > limits.missing_cameras else None)


def _alignment(situation: Situation, limits: CheckLimits) -> Verdict | None:
    distance = situation.candidates.alignment_distance
    if np.isnan(distance):
        return None
    problem = f"alignment distance {distance:.2f}, limit {limits.alignment_distance:.2f}"
    return _of_all(situation, problem if distance > limits.alignment_distance else None)


def _uncertainty(situation: Situation, limits: CheckLimits) -> Verdict | None:
    uncertainty = situation.candidates.uncertainty
    if np.isnan(uncertainty):
        return None
    problem = f"planner uncertainty {uncertainty:.2f}, limit {limits.uncertainty:.2f}"
    return _of_all(situation, problem if uncertainty > limits.uncertainty else None)


def _corners(poses_m: FloatArray, body: VehicleDimensions, margin_m: float) -> FloatArray:
    """Returns (..., 4, 2) corners of the ego's box, moved inwards by a margin."""
    half_length_m = max(0.5 * body.length_m - margin_m, 0.0)
    half_width_m = max(0.5 * body.width_m - margin_m, 0.0)
    x_m = body.rear_axle_to_center_m + half_length_m * np.array([1.0, 1.0, -1.0, -1.0])
    y_m = half_width_m * np.array([1.0, -1.0, -1.0, 1.0])
    cos, sin = np.cos(poses_m[..., 2, None]), np.sin(poses_m[..., 2, None])
    corners = np.empty((*poses_m.shape[:-1], 4, 2))
    corners[..., 0] = poses_m[..., 0, None] + cos * x_m - sin * y_m
    corners[..., 1] = poses_m[..., 1, None] + sin * x_m + cos * y_m
    return corners


CHECKS: dict[str, Callable[[Situation, CheckLimits], Verdict | None]] = {
    "finite": _finite,
    "candidate_age": _candidate_age,
    "odometry_age": _odometry_age,
    "start": _start,
    "feasibility": _feasible,
    "shift": _shift,
    "drivable_area": _drivable_area,
    "collision": _collision,
    "headway": _headway,
    "cameras": _cameras,
    "alignment": _alignment,
    "uncertainty": _uncertainty,
}
"""All checks by name, in the order of evaluation."""

DEFAULT_MODES = dict.fromkeys(CHECKS, Mode.ENFORCE) | {
    "alignment": Mode.SHADOW,
    "uncertainty": Mode.SHADOW,
}
"""The last two have limits that only a drive of the vehicle and its bundle can tell."""
