from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from rap_evaluation.metrics.pdm_scene import HORIZON_STEPS, STATE_SIZE
from rap_evaluation.planners.graph_planner import (
    ATTEMPTS,
    LEAP_NS,
    TICK_NS,
    Answers,
    GraphError,
    GraphPlanner,
    Trajectory,
)
from rap_evaluation.planners.observation import Observation, Road, Surroundings
from rap_planner.guard import GuardState
from rap_planner.route import Command
from rap_raster.ego_history import EgoHistory, EgoState
from rap_raster.scene import Boxes, Lights

SPEED_MPS = 10.0


def straight_road():
    along = np.arange(0.0, 400.0, 0.5)
    line = np.column_stack([along, np.zeros((len(along), 2))])
    return Road(lane_ids=("lane",), line_m=line, along_m=along, seed=0)


def observation(road, step):
    x_m = 20.0 + SPEED_MPS * 0.1 * step
    ego = EgoState(step * 100_000_000, x_m, 0.0, 0.0, 0.0, SPEED_MPS, 0.0, 0.0)
    around = Surroundings(Boxes.empty(), Lights.empty(), {})
    return Observation(ego, np.zeros(STATE_SIZE), EgoHistory(), around, road, x_m)


@dataclass
class FakeGraph:
    """Plans at once and straight on, unless told otherwise; its guard looks at every tick."""

    plans: bool = True
    guard: bool = True
    passes: bool = True
    plans_to_read_a_route: int = 0
    answers: Answers = field(default_factory=Answers)
    clock_ns: list[int] = field(default_factory=list)
    odometry_ns: list[int] = field(default_factory=list)
    objects_ns: list[int] = field(default_factory=list)
    images_ns: list[int] = field(default_factory=list)
    routes: int = 0
    _unread: int = 0
    _candidates: Trajectory | None = None

    def publish_clock(self, stamp_ns):
        self.clock_ns.append(stamp_ns)
        if not self.guard:
            return
        self.answers.cycle_ns = stamp_ns
        if self._candidates is not None and self.passes:
            self.answers.trajectory = self._candidates
        if self.answers.trajectory is not None:
            self.answers.state = GuardState.NOMINAL if self.passes else GuardState.HOLD_LAST
            self.answers.trajectories += 1

    def publish_route(self, stamp_ns, line_m):
        self.routes += 1
        self._unread = self.plans_to_read_a_route

    def publish_odometry(self, ego):
        assert ego.stamp_ns <= self.clock_ns[-1]
        self.odometry_ns.append(ego.stamp_ns)
        self._ego = ego

    def publish_objects(self, stamp_ns, observation):
        assert self.odometry_ns[-1] == stamp_ns, "no odometry for the objects' stamp"
        self.objects_ns.append(stamp_ns)
        self.answers.seen_ns = stamp_ns

    def publish_images(self, stamp_ns, observation):
        assert self.objects_ns[-1] == stamp_ns, "no objects for the images' stamp"
        self.images_ns.append(stamp_ns)
        if not self.plans:
            return
        x_m = self._ego.x_m + SPEED_MPS * 0.1 * np.arange(1, 51)
        poses = np.column_stack([x_m, np.zeros((50, 2))])
        self._candidates = Trajectory(stamp_ns, poses)
        self.answers.planned_ns = stamp_ns
        self.answers.command = Command.STRAIGHT if self._unread == 0 else Command.UNKNOWN
        self._unread = max(0, self._unread - 1)

    def wait_until(self, condition, patience_s):
        return condition()


def drive(planner, road, steps):
    return [planner.plan(observation(road, step)) for step in steps]


@pytest.mark.parametrize("replan_hz", [2, 10])
def test_the_plan_of_an_instant_is_followed_from_that_instant_on(replan_hz):
    graph = FakeGraph()
    planner = GraphPlanner(graph, replan_hz=replan_hz, patience_s=1.0)
    every = 10 // replan_hz
    plans = drive(planner, straight_road(), range(20))
    for step, plan in enumerate(plans):
        assert (plan is not plans[step - 1]) == (step % every == 0)
        begin_m = 20.0 + SPEED_MPS * 0.1 * (step - step % every)
        expected_m = begin_m + SPEED_MPS * plan.dt_s * np.arange(1, 11)
        np.testing.assert_allclose(plan.poses_m[:, 0], expected_m)
    assert planner.counts.instants == 20 // every == len(graph.images_ns)
    assert graph.objects_ns == graph.odometry_ns, "the guard must see everybody at every step"
    assert planner.counts.not_followed == planner.counts.unplanned == 0
    assert np.all(np.diff(graph.odometry_ns) == 100_000_000)
    assert np.all(np.diff(graph.clock_ns) >= TICK_NS)
    assert np.all(np.diff(graph.clock_ns)[1:] == TICK_NS), "the guard must see every tick"


def test_time_leaps_between_routes_and_never_goes_back():
    graph = FakeGraph()
    planner = GraphPlanner(graph, replan_hz=2, patience_s=1.0)
    drive(planner, straight_road(), range(7))
    last_ns = graph.odometry_ns[-1]
    drive(planner, straight_road(), range(7))  # Another road, though it looks the same.
    assert graph.routes == 2
    assert graph.odometry_ns[7] - last_ns >= LEAP_NS - 1_000_000_000
    assert graph.odometry_ns[7] == graph.images_ns[2], "a route begins with a plan"
    assert np.all(np.diff(graph.clock_ns) > 0)


def test_without_an_answer_the_last_trajectory_goes_on_and_is_counted():
    graph = FakeGraph()
    planner = GraphPlanner(graph, replan_hz=2, patience_s=1.0)
    road = straight_road()
    first = drive(planner, road, [0])[0]
    graph.plans = False
    plans = drive(planner, road, range(1, 31))
    assert planner.counts.unplanned == 6
    for step, plan in zip(range(5, 31, 5), plans[4::5], strict=True):
        left = first.poses_m[step // 5 :]
        assert len(plan.poses_m) * plan.dt_s >= 0.1 * HORIZON_STEPS
        np.testing.assert_array_equal(plan.poses_m[: len(left)], left)
        assert np.all(plan.poses_m[len(left) :] == left[-1]), "where it ends, the vehicle stands"


def test_a_plan_that_the_guard_holds_back_is_not_followed():
    graph = FakeGraph()
    planner = GraphPlanner(graph, replan_hz=2, patience_s=1.0)
    road = straight_road()
    first = drive(planner, road, [0])[0]
    graph.passes = False
    later = drive(planner, road, range(1, 6))[-1]
    assert planner.counts.not_followed == 1
    np.testing.assert_array_equal(later.poses_m, first.poses_m[1:])


def test_a_stop_of_the_guard_between_two_plans_is_followed_at_once():
    graph = FakeGraph()
    planner = GraphPlanner(graph, replan_hz=2, patience_s=1.0)
    road = straight_road()
    drive(planner, road, range(3))
    stand = np.repeat([[25.0, 0.0, 0.0]], 50, axis=0)
    graph._candidates = Trajectory(graph.odometry_ns[-1], stand)
    plan = drive(planner, road, [3])[0]
    assert np.all(plan.poses_m == stand[0])


def test_a_dead_guard_costs_patience_once_and_the_drive_goes_on():
    graph = FakeGraph()
    planner = GraphPlanner(graph, replan_hz=2, patience_s=1.0)
    patience = []
    graph.wait_until = lambda condition, s: condition() or bool(patience.append(s))
    road = straight_road()
    drive(planner, road, range(3))
    graph.guard = False
    drive(planner, road, range(3, 5))
    assert planner.counts.missed_cycles == 4
    assert patience[0] == 1.0
    assert max(patience[1:]) < 0.1


def test_a_route_that_was_not_read_yet_is_asked_for_again():
    graph = FakeGraph(plans_to_read_a_route=2)
    planner = GraphPlanner(graph, replan_hz=2, patience_s=1.0)
    drive(planner, straight_road(), range(3))
    assert graph.routes == 1
    assert len(graph.images_ns) == 3
    assert graph.answers.command is Command.STRAIGHT


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (FakeGraph(plans=False), "candidates did not come"),
        (FakeGraph(plans_to_read_a_route=ATTEMPTS), "command UNKNOWN, the route says STRAIGHT"),
        (FakeGraph(passes=False), "the guard is WAITING"),
    ],
)
def test_a_graph_that_does_not_begin_to_drive_is_an_error_with_its_reason(graph, reason):
    planner = GraphPlanner(graph, replan_hz=2, patience_s=1.0)
    with pytest.raises(GraphError, match=reason):
        planner.plan(observation(straight_road(), 0))
