"""What a recording of a driving stack says about its guard and its plans, in shadow or active.

Definitions, as in `report.json`; times are seconds since the guard's first recorded cycle:

- `states`: shares of the time between the guard's first and last cycle, by its own stamps. A
  stretch of more than 0.2 s without a cycle, longer than the guard may be silent, is `silent`; so
  is all of a simulation that runs faster than four times real time.
- `episodes`: stretches in one state other than NOMINAL, each with the reason it began with.
- `cycle_gap_ms`: between successive cycles, each of which publishes a trajectory.
- `latency_ms`: of `rap/latency/end_to_end`: from the stamp of the anchor image to the trajectory.
- `ade_3s_m`: mean distance, at 0.5, 1.0, .. 3.0 s, of the trajectories published in NOMINAL to
  where the vehicle was then; `ade_3s_constant_velocity_m` for the same moments. `farthest` are the
  moments with the largest distance. In shadow it compares plans with the driver; active, with what
  the vehicle made of them.
- `not_finite`: messages that were left out because a number in them is none, by topic.
- `rejected`: share of all candidates that fail each check, whatever the check's mode.
- `diagnostics`: warnings and errors by who gave them, with how often, when first, and what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rap_bringup.answers import GUARD_STATES, NOMINAL
from rap_bringup.bag_reader import ego_state, read_messages, recorded_topics
from rap_bringup.bag_types import Message, deserialized, stamp_of
from rap_bringup.bags import BagError
from rap_bringup.summary import (
    NS_PER_S,
    DrivenPath,
    Plan,
    constant_velocity_error_m,
    percentiles_ms,
    plan_error_m,
)
from rap_raster.ego_history import EgoState

STATE, LATENCY, DIAGNOSTICS, ODOMETRY = (
    "rap/state",
    "rap/latency/end_to_end",
    "diagnostics",
    "odometry",
)
TRAJECTORIES = {"rap/trajectory": "active", "rap/shadow/trajectory": "shadow"}
"""Where a guard publishes, by its mode."""

TYPES = {
    STATE: "rap_msgs/msg/GuardState",
    LATENCY: "rap_msgs/msg/Float64Stamped",
    DIAGNOSTICS: "diagnostic_msgs/msg/DiagnosticArray",
    ODOMETRY: "nav_msgs/msg/Odometry",
    **dict.fromkeys(TRAJECTORIES, "nav_msgs/msg/Path"),
}
SILENT = "silent"
SILENT_AFTER_S = 0.2
"""No guard that lives is silent for longer; see rap_planner's README."""

FARTHEST = 5
LEVELS = {1: "warning", 2: "error", 3: "stale"}
"""Of `diagnostic_msgs/DiagnosticStatus`, OK apart."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle of the guard.

    Attributes:
        stamp_ns: By the guard's clock.
        state: Code of `rap_msgs/GuardState`.
        reason: Why.
    """

    stamp_ns: int
    state: int
    reason: str


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch of time in one state.

    Attributes:
        state: Name of the state, or `silent`.
        begin_s: Since the guard's first cycle.
        seconds: Until a cycle in another state.
        reason: Of its first cycle.
    """

    state: str
    begin_s: float
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """Who warned in diagnostics.

    Attributes:
        level: "warning", "error" or "stale".
        name: Of the status.
        first_s: Since the guard's first cycle; 0 for what came before it.
        message: Of the first one.
        count: How many there were.
    """

    level: str
    name: str
    first_s: float
    message: str
    count: int


@dataclass(slots=True)
class RecordedDrive:
    """What a recording holds.

    Attributes:
        mode: Of the guard, "active" or "shadow"; "" without a trajectory.
        cycles: Of the guard, in order.
        plans: Trajectories that were published in NOMINAL, each once.
        latencies_ms: Stamp in nanoseconds and milliseconds.
        candidates: How many candidates the guard judged.
        rejections: How many of them failed each check.
        states: Odometry in order of stamps.
        not_finite: Topics and how many of their messages have numbers that are none.
    """

    mode: str = ""
    cycles: list[Cycle] = field(default_factory=list)
    plans: dict[int, Plan] = field(default_factory=dict)
    latencies_ms: list[tuple[int, float]] = field(default_factory=list)
    candidates: int = 0
    rejections: Counter[str] = field(default_factory=Counter)
    states: list[EgoState] = field(default_factory=list)
    not_finite: Counter[str] = field(default_factory=Counter)
    _complaints: dict[tuple[str, str], tuple[int, str, int]] = field(default_factory=dict)

    @property
    def begin_ns(self) -> int:
        """Stamp of the guard's first cycle."""
        return self.cycles[0].stamp_ns

    def since_begin_s(self, stamp_ns: int) -> float:
        """Returns seconds since the guard's first cycle."""
        return (stamp_ns - self.begin_ns) / NS_PER_S

    @property
    def complaints(self) -> list[Complaint]:
        """Warnings and errors in the order of their first."""
        return [
            Complaint(level, name, round(max(0.0, self.since_begin_s(stamp_ns)), 2), text, count)
            for (level, name), (stamp_ns, text, count) in self._complaints.items()
        ]

    def take(self, topic: str, content: Message) -> None:
        """Adds one message."""
        if topic == STATE:
            self._take_state(content)
        elif topic == LATENCY:
            stamp_ns = int(content.stamp.sec) * NS_PER_S + int(content.stamp.nanosec)
            if self._is_finite(topic, [content.data]):
                self.latencies_ms.append((stamp_ns, float(content.data)))
        elif topic == ODOMETRY:
            state = ego_state(content)
            if self._is_finite(topic, [*state.planar, state.vx_mps, state.vy_mps]):
                self.states.append(state)
        elif topic == DIAGNOSTICS:
            self._take_diagnostics(content)
        else:
            self._take_trajectory(topic, content)

    def _is_finite(self, topic: str, values: npt.ArrayLike) -> bool:
        """True if all numbers are some; counts the message otherwise."""
        finite = bool(np.isfinite(values).all())
        self.not_finite[topic] += not finite
        return finite

    def _take_state(self, content: Message) -> None:
        if not content.state < len(GUARD_STATES):
            raise ValueError(f"state {content.state} is unknown")
        stamp_ns = stamp_of(content.header)
        if stamp_ns == 0:
            return  # Simulated time had not begun.
        self.cycles.append(Cycle(stamp_ns, int(content.state), content.reason))
        self.candidates += int(content.num_candidates)
        failed = zip(content.check_names, content.check_rejections, strict=True)
        self.rejections.update({name: int(count) for name, count in failed})

    def _take_trajectory(self, topic: str, content: Message) -> None:
        """Keeps those that follow a plan: the guard tells its state just before."""
        self.mode = TRAJECTORIES[topic]
        if not self.cycles or self.cycles[-1].state != NOMINAL or not content.poses:
            return
        stamp_ns = stamp_of(content.header)
        dt_s = (stamp_of(content.poses[0].header) - stamp_ns) / NS_PER_S
        places = [(p.pose.position.x, p.pose.position.y) for p in content.poses]
        if not self._is_finite(topic, places):
            return
        self.plans.setdefault(stamp_ns, Plan(stamp_ns, dt_s, np.array(places), "", np.nan))

    def _take_diagnostics(self, content: Message) -> None:
        for status in content.status:
            level = LEVELS.get(int(status.level))
            if level is not None:
                new = (stamp_of(content.header), status.message, 0)
                stamp_ns, text, count = self._complaints.get((level, status.name), new)
                self._complaints[level, status.name] = (stamp_ns, text, count + 1)


def read_drive(path: Path) -> RecordedDrive:
    """Reads what a guard published, and odometry.

    Args:
        path: A rosbag2 folder or file, such as the `drive.mcap` of a replay.

    Raises:
        BagError: If it is no bag, cannot be read to its end, has a topic of another type, or no
            messages of the guard.
    """
    topics = recorded_topics(path)
    for name, type_name in TYPES.items():
        if name in topics and topics[name].type_name != type_name:
            found = topics[name].type_name
            raise BagError(f"{path}: /{name} has type {found}, expected {type_name}")
    drive = RecordedDrive()
    for item in read_messages(path, set(TYPES)):
        try:
            drive.take(item.topic, deserialized(item.raw, TYPES[item.topic]))
        except ValueError as error:
            raise BagError(f"{path}: /{item.topic}: {error}") from error
    if not drive.cycles:
        raise BagError(f"{path}: no messages of a guard on /{STATE}, expected some")
    drive.states.sort(key=lambda state: state.stamp_ns)
    return drive


def report(drive: RecordedDrive) -> dict[str, object]:
    """Computes the content of `report.json`; see the module's text for the definitions."""
    found = episodes(drive)
    errors = plan_errors(drive)
    means = np.mean([error[1:] for error in errors], axis=0) if errors else None
    return {
        "mode": drive.mode,
        "duration_s": round(drive.since_begin_s(drive.cycles[-1].stamp_ns), 3),
        "driven_m": round(_driven_m(drive.states), 1),
        "states": state_shares(found),
        "episodes": [asdict(episode) for episode in found if episode.state != _NOMINAL_NAME],
        "cycles": len(drive.cycles),
        "cycle_gap_ms": _gaps_ms(drive.cycles),
        "latency_ms": _with_max([value for _, value in drive.latencies_ms]),
        "plans": len(drive.plans),
        "ade_3s_m": None if means is None else round(float(means[0]), 4),
        "ade_3s_constant_velocity_m": None if means is None else round(float(means[1]), 4),
        "ade_plans": len(errors),
        "farthest": _farthest(drive, errors),
        "not_finite": {topic: count for topic, count in drive.not_finite.items() if count},
        "rejected": {
            name: round(count / max(1, drive.candidates), 4)
            for name, count in drive.rejections.items()
        },
        "diagnostics": [asdict(complaint) for complaint in drive.complaints],
    }


_NOMINAL_NAME = GUARD_STATES[NOMINAL]


def episodes(drive: RecordedDrive) -> list[Episode]:
    """Returns what the guard was in, from its first cycle to its last, NOMINAL included.

    The last cycle takes no time, but is an episode where it is the only one of its state.
    """
    found: list[Episode] = []
    for cycle, following in zip(drive.cycles, [*drive.cycles[1:], drive.cycles[-1]], strict=True):
        # A clock that was set back takes no time.
        seconds = max(0.0, (following.stamp_ns - cycle.stamp_ns) / NS_PER_S)
        begin_s = drive.since_begin_s(cycle.stamp_ns)
        name = GUARD_STATES[cycle.state]
        if seconds > SILENT_AFTER_S:
            found.append(Episode(SILENT, begin_s, seconds, f"after {name}: {cycle.reason}"))
        elif found and found[-1].state == name:
            last = found[-1]
            found[-1] = Episode(name, last.begin_s, last.seconds + seconds, last.reason)
        else:
            found.append(Episode(name, begin_s, seconds, cycle.reason))
    return found


def state_shares(found: Sequence[Episode]) -> dict[str, dict[str, float]]:
    """Returns share of time, number and longest of the episodes of each state that occurred."""
    total_s = max(sum(episode.seconds for episode in found), 1e-9)
    shares = {}
    for name in (*GUARD_STATES, SILENT):
        seconds = [episode.seconds for episode in found if episode.state == name]
        if seconds:
            shares[name] = {
                "share": round(sum(seconds) / total_s, 5),
                "episodes": len(seconds),
                "longest_s": round(max(seconds), 3),
            }
    return shares


def plan_errors(drive: RecordedDrive) -> list[tuple[int, float, float]]:
    """Returns stamp, distance of the plan and of constant velocity, where 3 s were driven after."""
    path = DrivenPath(drive.states)
    errors = []
    for plan in drive.plans.values():
        error_m = plan_error_m(plan, path)
        reference_m = constant_velocity_error_m(plan.stamp_ns, path)
        if error_m is not None and reference_m is not None:
            errors.append((plan.stamp_ns, error_m, reference_m))
    return errors


def _farthest(
    drive: RecordedDrive, errors: Sequence[tuple[int, float, float]]
) -> list[dict[str, float]]:
    worst = sorted(errors, key=lambda error: -error[1])[:FARTHEST]
    return [
        {"at_s": round(drive.since_begin_s(stamp_ns), 2), "ade_3s_m": round(error_m, 3)}
        for stamp_ns, error_m, _ in worst
    ]


def _gaps_ms(cycles: Sequence[Cycle]) -> dict[str, float | None]:
    stamps = np.array([cycle.stamp_ns for cycle in cycles], dtype=np.int64)
    return _with_max((1e3 * np.diff(stamps) / NS_PER_S).tolist())


def _with_max(values_ms: Sequence[float]) -> dict[str, float | None]:
    largest = round(float(max(values_ms)), 2) if values_ms else None
    return {**percentiles_ms(values_ms), "max": largest}


def _driven_m(states: Sequence[EgoState]) -> float:
    places = np.array([(state.x_m, state.y_m) for state in states]).reshape(-1, 2)
    return float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())
