"""A running ROS graph as the planner of the closed loop; no ROS in here.

Simulated time belongs to the simulation: it stands still until the graph has answered, so a slow
machine makes the drive slower and not worse. One step of 0.1 s goes like this. The clock reaches
the step, odometry and objects are published. At a planning instant images follow, if there are
cameras, and the clock waits for the candidates of that very stamp. Then it moves on by half a
step, the guard's period, so that the guard looks at those candidates and publishes the trajectory.
The ego follows that one from the instant on, as planners of the offline closed loop are followed.

Between routes the clock leaps ahead, by more than any history in the graph remembers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from rap_evaluation.metrics.pdm_scene import DT_S
from rap_evaluation.planners.observation import Observation, Plan, Road
from rap_evaluation.planners.trajectory_plan import trajectory_plan
from rap_planner.guard import GuardState
from rap_planner.route import Command, command_from_route
from rap_planner.trajectory import STEP_S
from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray

TICK_NS = 50_000_000
"""Steps of the clock: the period of the guard, so that it looks at every one of them."""

LEAP_NS = 10_000_000_000
"""Between routes: twice what `EgoHistory` keeps, and more than tracks and plans live."""

TICKS = 2
"""Looks of the guard at a plan: the candidates may reach the guard after the first."""

FIRST_TICKS = 10
"""The same where a route begins and the guard may be recovering from the leap."""

ATTEMPTS = 5
"""At the first plan of a route: nodes may not have found each other, or not have read the route."""

CYCLE_S = 0.1
"""Two cycles of a guard that looks by the wall clock: one may be under way when plans arrive.

It is also what objects get to pass through perception.
"""

QUICK_S = 0.05
"""Patience with a guard that has just missed a cycle: it is dead until it shows up again."""

_NS = 1_000_000_000
_STEP_NS = round(STEP_S * _NS)


class GraphError(ValueError):
    """The graph does not drive; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What the graph wants to be followed.

    Attributes:
        stamp_ns: Of the input it was computed from.
        poses_m: (n, 3) x, y, yaw, map frame; pose k is at the stamp plus (k + 1) 0.1 s.
    """

    stamp_ns: int
    poses_m: FloatArray

    def equals(self, other: Trajectory | None) -> bool:
        """True if nothing differs: a stop of the guard may carry the stamp of a plan."""
        return (
            other is not None
            and self.stamp_ns == other.stamp_ns
            and np.array_equal(self.poses_m, other.poses_m)
        )


@dataclass(slots=True)
class Answers:
    """The newest of everything the graph has said.

    Attributes:
        planned_ns: Stamp of the candidates.
        seen_ns: Stamp of the objects that the guard gets to see.
        command: What they were told to do.
        cycle_ns: Time of the guard's cycle.
        state: Of the guard then.
        trajectory: What to follow; another object only if it is another trajectory.
        trajectories: How many came.
    """

    planned_ns: int = -1
    seen_ns: int = -1
    command: Command = Command.UNKNOWN
    cycle_ns: int = -1
    state: GuardState = GuardState.WAITING
    trajectory: Trajectory | None = None
    trajectories: int = 0


@dataclass(slots=True)
class GraphCounts:
    """How the graph kept up.

    Attributes:
        instants: Plans asked for.
        unplanned: Instants that got no candidates within the patience.
        not_followed: Instants whose plan the guard did not let through, or not in time.
        missed_cycles: Ticks of the clock that the guard did not answer.
    """

    instants: int = 0
    unplanned: int = 0
    not_followed: int = 0
    missed_cycles: int = 0


class Graph(Protocol):
    """The graph's inputs and outputs.

    Attributes:
        answers: Filled while waiting.
    """

    answers: Answers

    def publish_clock(self, stamp_ns: int) -> None:
        """Moves simulated time on."""

    def publish_route(self, stamp_ns: int, line_m: FloatArray) -> None:
        """Publishes (n, 3) points of a route and waits until they have arrived."""

    def publish_odometry(self, ego: EgoState) -> None:
        """Publishes the ego's state; its stamp is simulated time."""

    def publish_objects(self, stamp_ns: int, observation: Observation) -> None:
        """Publishes what is around; without cameras, plans are made of it."""

    def publish_images(self, stamp_ns: int, observation: Observation) -> None:
        """Publishes what the cameras see, if there are any."""

    def wait_until(self, condition: Callable[[], bool], patience_s: float) -> bool:
        """Waits for a condition on the answers; False if it does not come true in time."""


class GraphPlanner:
    """Lets a graph drive. It is to be asked at every step of 0.1 s."""

    def __init__(self, graph: Graph, *, replan_hz: int, patience_s: float) -> None:
        """Connects the closed loop to a graph.

        Args:
            graph: Its inputs and outputs.
            replan_hz: Planning instants a second; divides 10.
            patience_s: By the wall clock; how long a plan may take before the drive goes on.
        """
        self._graph = graph
        self._plan_every = round(1.0 / DT_S / replan_hz)
        self._patience_s = patience_s
        self._guard_patience_s = patience_s
        self._clock_ns = 0
        self._origin_ns = 0
        self._road: Road | None = None
        self._followed: Trajectory | None = None
        self._plan: Plan | None = None
        self.counts = GraphCounts()

    def plan(self, observation: Observation) -> Plan:
        """Shows the graph one step; returns what it answers, or the last plan if that goes on.

        Raises:
            GraphError: If the graph does not begin to drive on a new route.
        """
        is_first = observation.road is not self._road
        step = round(observation.ego.stamp_ns / _STEP_NS)
        is_due = is_first or step % self._plan_every == 0
        if is_first:
            self._begin(observation)
        else:
            self._show(observation)
            if is_due:
                self._ask(observation, TICKS)
        stamp_ns = self._stamp_ns(observation)
        self._tick(stamp_ns + TICK_NS)
        return self._newest(observation, is_due)

    def _stamp_ns(self, observation: Observation) -> int:
        return self._origin_ns + observation.ego.stamp_ns

    def _begin(self, observation: Observation) -> None:
        """Publishes a new route and asks until the graph drives on it.

        The leap comes first: what is left of the route before is too old then to begin with.
        """
        road = observation.road
        self._road = road
        self._leap(observation)
        self._graph.publish_route(self._clock_ns, road.line_m)
        expected = command_from_route(road.line_m, observation.ego.pose)
        for attempt in range(ATTEMPTS):
            if attempt:
                self._leap(observation)
            self._show(observation)
            followed = self._ask(observation, FIRST_TICKS)
            if followed and self._graph.answers.command == expected:
                return
        answers = self._graph.answers
        raise GraphError(
            f"no rap/trajectory for a new route after {ATTEMPTS} attempts: the guard is "
            f"{answers.state.name}, candidates "
            + (
                f"have the command {answers.command.name}, the route says {expected.name}"
                if answers.planned_ns >= self._stamp_ns(observation)
                else "did not come"
            )
        )

    def _leap(self, observation: Observation) -> None:
        self._origin_ns = (self._clock_ns + LEAP_NS) // _NS * _NS - observation.ego.stamp_ns
        self._tick(self._stamp_ns(observation))

    def _show(self, observation: Observation) -> None:
        stamp_ns, answers = self._stamp_ns(observation), self._graph.answers
        self._tick(stamp_ns)
        self._graph.publish_odometry(replace(observation.ego, stamp_ns=stamp_ns))
        self._graph.publish_objects(stamp_ns, observation)
        self._graph.wait_until(lambda: answers.seen_ns >= stamp_ns, CYCLE_S)

    def _ask(self, observation: Observation, ticks: int) -> bool:
        """Publishes images, and waits for the plan and for the guard; True if all came."""
        stamp_ns, answers = self._stamp_ns(observation), self._graph.answers
        self.counts.instants += 1
        self._graph.publish_images(stamp_ns, observation)
        if not self._graph.wait_until(lambda: answers.planned_ns >= stamp_ns, self._patience_s):
            self.counts.unplanned += 1
            return False
        for tick in range(1, ticks + 1):
            self._tick(stamp_ns + tick * TICK_NS)
            self._graph.wait_until(
                lambda: self._follows(stamp_ns) or answers.state is not GuardState.NOMINAL, CYCLE_S
            )
            if self._follows(stamp_ns):
                return True
        self.counts.not_followed += 1
        return False

    def _follows(self, stamp_ns: int) -> bool:
        """True if the guard lets the plan of a stamp through."""
        answers = self._graph.answers
        newest_ns = -1 if answers.trajectory is None else answers.trajectory.stamp_ns
        return answers.state is GuardState.NOMINAL and newest_ns == stamp_ns

    def _tick(self, stamp_ns: int) -> None:
        """Moves the clock on, if it is not there yet, and waits for the guard's cycle."""
        if stamp_ns <= self._clock_ns:
            return
        answers, before = self._graph.answers, self._graph.answers.trajectories
        self._clock_ns = stamp_ns
        self._graph.publish_clock(stamp_ns)
        has_cycled = self._graph.wait_until(
            lambda: (
                answers.cycle_ns >= stamp_ns
                and (answers.state is GuardState.WAITING or answers.trajectories > before)
            ),
            self._guard_patience_s,
        )
        self._guard_patience_s = self._patience_s if has_cycled else QUICK_S
        self.counts.missed_cycles += not has_cycled

    def _newest(self, observation: Observation, is_due: bool) -> Plan:
        """Returns the newest trajectory as a plan: always at planning instants, else if it is new.

        Also when there is no other, it is taken again: the tracker looks 4 s ahead.
        """
        trajectory = self._graph.answers.trajectory
        if trajectory is None:
            raise GraphError("no rap/trajectory was published")
        if self._plan is None or is_due or trajectory is not self._followed:
            self._followed = trajectory
            self._plan = trajectory_plan(
                trajectory.stamp_ns,
                trajectory.poses_m,
                self._stamp_ns(observation),
                observation.ego.planar,
            )
        return self._plan
