"""The guard as a process: what a controller reads, whatever comes in."""

from __future__ import annotations

import copy
import itertools
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from graph_probe import SPEED_MPS, START, Probe, Process
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMsg
from rap_msgs.msg import Float64Stamped, GuardState, MrmRequest, TrajectoryCandidates
from rap_msgs.msg import TrackedObjects as TrackedObjectsMsg
from rosgraph_msgs.msg import Clock

from rap_planner.candidates import Candidates
from rap_planner.ros.conversions import candidates_msg, usable_objects
from rap_planner.route import Command
from rap_raster.ego_history import EgoState
from rap_raster.observations import TrackedObjects
from rap_raster.ros.conversions import MessageError, objects_msg, stamp_ns, time_msg
from rap_raster.ros.diagnostics import ERROR
from rap_raster.ros.qos import LATCHED, RESULT, STREAM
from rap_raster.scene import Boxes, Lights

pytestmark = pytest.mark.ros

SECOND = 1_000_000_000

GUARD = "rap_planner.ros.guard_node"
PARAMS_FILE = "config/rap.param.yaml"

# A busy machine must not make the guard stop the vehicle in the middle of a test.
PATIENT = [f"limits.{name}_age_s:=20.0" for name in ("candidate", "odometry", "objects")]
ACTIVE = ["mode:=active", *PATIENT, "mrm.after_s:=0.4"]

AHEAD, BESIDE = 0, 1
"""Candidates of `plan`: the best one goes straight on, the other one moves over to the left."""


def plan(probe: Probe, now_ns: int) -> TrajectoryCandidates:
    ego = EgoState(now_ns, probe.ego_x_m(now_ns), START[1], 0.0, 0.0, SPEED_MPS, 0.0, 0.0)
    times_s = 0.5 * np.arange(1, 11)
    poses = np.zeros((2, 10, 3))
    poses[:, :, 0] = ego.x_m + SPEED_MPS * times_s
    poses[:, :, 1] = START[1]
    poses[BESIDE, :, 1] += np.minimum(0.9 * times_s, 3.0)
    scores = np.array([0.0, -1.0], np.float32)
    nan = float("nan")
    sources = np.ones(3, np.uint8)
    return candidates_msg(
        Candidates(
            now_ns, ego, 0.5, poses, scores, 0.1, Command.STRAIGHT, "route", 3.0, sources, nan
        ),
        "map",
    )


def cars(probe: Probe, now_ns: int, *places: tuple[float, float]) -> TrackedObjectsMsg:
    """Cars that go as fast as the ego would let them: some metres ahead, some to the left."""
    x_m = probe.ego_x_m(now_ns)
    boxes = Boxes.from_rows(
        [
            (i + 1, 1, x_m + ahead, START[1] + left, 0.8, 4.0, 1.6, 1.6, 0.0, 0.0, 0.0)
            for i, (ahead, left) in enumerate(places)
        ]
    )
    ones = np.ones(len(boxes), np.float32)
    return objects_msg(TrackedObjects(now_ns, boxes, Lights.empty(), 0 * ones, ones), "map")


@dataclass
class Road:
    """Feeds the guard with a drive that a test changes as it goes, and keeps what it answers."""

    probe: Probe
    planning: bool = False
    places: tuple[tuple[float, float], ...] | None = None
    also: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        node = self.probe.node
        self.candidates = node.create_publisher(TrajectoryCandidates, "rap/candidates", RESULT)
        self.objects = node.create_publisher(TrackedObjectsMsg, "rap/objects", STREAM)
        self.odometry = node.create_publisher(Odometry, "odometry", STREAM)
        self.route = node.create_publisher(PathMsg, "route", LATCHED)
        self.paths = self.probe.watch(PathMsg, "rap/trajectory")
        self.states = self.probe.watch(GuardState, "rap/state")
        self.requests = self.probe.watch(MrmRequest, "rap/mrm_request", LATCHED)
        self.latencies = self.probe.watch(Float64Stamped, "rap/latency/end_to_end")
        self.reports = self.probe.watch(DiagnosticArray, "/diagnostics", STREAM)

    def until(self, condition: Callable[[], bool], *, drive: bool = True) -> None:
        """Drives on until something holds."""
        deadline_s = time.monotonic() + 40.0
        while not condition():
            states = [(s.state, s.reason) for s in self.states[-3:]]
            assert time.monotonic() < deadline_s, states
            if drive:
                now_ns = self.probe.feed(objects=None)
                if self.places is not None:
                    self.objects.publish(cars(self.probe, now_ns, *self.places))
                if self.planning:
                    self.candidates.publish(plan(self.probe, now_ns))
                if self.also is not None:
                    self.also(now_ns)
            self.probe.spin(0.05)

    def until_state(self, state: int, index: int | None = None) -> None:
        """Drives on until the guard is in a state, following a candidate."""
        before = len(self.states)

        def reached() -> bool:
            newest = self.states[-1] if len(self.states) > before else None
            if newest is None or newest.state != state:
                return False
            return index is None or newest.candidate_index == index

        self.until(reached)

    def states_since(self, since_ns: int) -> list[int]:
        """States of cycles after an instant; what was sent before may come later."""
        return [s.state for s in self.states if stamp_ns(s.header.stamp) > since_ns]

    def errors(self) -> list[str]:
        """Texts of all errors in diagnostics so far."""
        return [s.message for r in self.reports for s in r.status if s.level == ERROR]


def test_from_waiting_to_a_request_and_back():
    """One guard through all of its states."""
    with Probe() as probe, Process(GUARD, ACTIVE, PARAMS_FILE):
        road = Road(probe)
        road.until(lambda: len(road.paths) > 2, drive=False)
        assert {path.header.frame_id for path in road.paths} == {"base_link"}
        assert {len(path.poses) for path in road.paths} == {1}
        assert {state.state for state in road.states} == {GuardState.WAITING}
        road.until(lambda: road.paths[-1].header.frame_id == "map")
        assert len(road.paths[-1].poses) == 1
        assert stamp_ns(road.paths[-1].header.stamp) in probe.fed

        road.planning = True
        road.until_state(GuardState.NOMINAL, AHEAD)
        road.until(lambda: len(road.latencies) > 0)
        assert 0.0 < road.latencies[0].data < 40e3
        road.places = ((14.0, -1.2),)
        road.until_state(GuardState.NOMINAL, BESIDE)
        assert road.states[-1].check_rejections[road.states[-1].check_names.index("collision")] == 1

        # The state is followed from here on: none may be left out.
        first = len(road.states)
        road.places = ((14.0, -1.2), (14.0, 2.5))
        road.until_state(GuardState.MRM_REQUEST)
        order = list(dict.fromkeys(state.state for state in road.states[first:]))
        # What meets somebody is not held.
        assert order[-2:] == [GuardState.CONTROLLED_STOP, GuardState.MRM_REQUEST]
        assert GuardState.HOLD_LAST not in order
        road.until(lambda: any(text.startswith("MRM_REQUEST: stop") for text in road.errors()))
        late = probe.watch(MrmRequest, "rap/mrm_request", LATCHED)
        road.until(lambda: late[-1].requested)
        assert late[-1].reason.startswith("stop ")

        road.places = ()
        nowhere = route(2)
        nowhere.poses[-1].pose.position.x = math.nan
        for none in (PathMsg(), nowhere):  # a route that is taken away, and one that is none
            none.header.frame_id = "map"
            road.route.publish(none)
        seen = len(road.states)
        road.until(lambda: len(road.states) > seen + 10)
        assert {state.state for state in road.states[seen:]} == {GuardState.MRM_REQUEST}
        road.route.publish(route(2))
        road.until_state(GuardState.NOMINAL)
        road.until(lambda: not road.requests[-1].requested)


def route(count: int) -> PathMsg:
    """A route of so many poses, a metre apart."""
    message = PathMsg(poses=[PoseStamped() for _ in range(count)])
    message.header.frame_id = "map"
    for row, pose in enumerate(message.poses):
        pose.pose.position.x = float(row)
    return message


def test_long_routes_hold_up_no_cycle():
    """Deserialized, 20,000 poses took a second."""
    long_route = route(20_000)
    with Probe() as probe, Process(GUARD, ACTIVE, PARAMS_FILE):
        road = Road(probe, planning=True)
        road.until_state(GuardState.NOMINAL)
        first = len(road.states)
        for _ in range(3):
            road.route.publish(long_route)
            before = len(road.states)
            road.until(lambda before=before: len(road.states) > before + 10)
        assert {state.state for state in road.states[first:]} == {GuardState.NOMINAL}


def test_a_guard_in_shadow_asks_nobody_for_help():
    with Probe() as probe, Process(GUARD, [*ACTIVE, "mode:=shadow"], PARAMS_FILE):
        road = Road(probe, planning=True)
        shadow = probe.watch(MrmRequest, "rap/shadow/mrm_request", LATCHED)
        road.until_state(GuardState.NOMINAL)
        road.places = ((14.0, -1.2), (14.0, 2.5))
        road.until(lambda: len(shadow) > 0 and shadow[-1].requested)
        assert road.requests == road.paths == []


def test_a_guard_that_is_started_again_withdraws_no_request():
    with Probe() as probe:
        road = Road(probe, planning=True)
        with Process(GUARD, ACTIVE, PARAMS_FILE) as guard:
            road.until_state(GuardState.NOMINAL)
            road.places = ((14.0, -1.2), (14.0, 2.5))
            road.until(lambda: len(road.requests) > 0 and road.requests[-1].requested)
            guard.end(signal.SIGKILL)
        dead_ns = probe.node.get_clock().now().nanoseconds
        road.planning = False
        with Process(GUARD, ACTIVE, PARAMS_FILE):
            # Objects first: a plan that comes before any has nobody in its way.
            road.until(lambda: len(road.states_since(dead_ns)) > 20)
            road.planning = True
            road.until(lambda: len(road.states_since(dead_ns)) > 40)
            assert set(road.states_since(dead_ns)) == {GuardState.WAITING}
            assert road.requests[-1].requested
            road.places = ()
            road.until_state(GuardState.NOMINAL)
            road.until(lambda: not road.requests[-1].requested)


def nonsense(road: Road) -> Callable[[int], None]:
    """Messages of every input that must not be believed; of candidates, one kind at a time."""
    turn = itertools.count()

    def publish(now_ns: int) -> None:
        bad = [plan(road.probe, now_ns) for _ in range(5)]
        bad[0].poses[7] = math.nan
        bad[1].header.frame_id = "odom"
        bad[2].scores = bad[2].scores[:1]
        bad[3].dt_s = 1e30
        bad[4].ego_pose[0] = math.inf
        road.candidates.publish(bad[next(turn) % len(bad)])
        wild = Odometry(child_frame_id="base_link")
        wild.header.frame_id, wild.header.stamp = "map", time_msg(now_ns)
        wild.pose.pose.position.x = math.nan
        road.odometry.publish(wild)
        nobody = cars(road.probe, now_ns, (14.0, 0.0))
        nobody.sizes[0] = math.nan
        road.objects.publish(nobody)
        road.route.publish(PathMsg())

    return publish


def test_invalid_inputs_and_a_second_publisher_never_stop_the_output():
    with Probe() as probe, Process(GUARD, ACTIVE, PARAMS_FILE):
        road = Road(probe)
        road.planning = True
        road.until_state(GuardState.NOMINAL)
        other = probe.node.create_publisher(PathMsg, "rap/trajectory", RESULT)
        road.planning, road.also = False, nonsense(road)
        first = len(road.states)

        def keeps_its_promise() -> bool:
            """Two seconds without a gap above 0.2 s; a busy machine may need a second try."""
            stamps_s = [1e-9 * stamp_ns(s.header.stamp) for s in road.states[first:][-40:]]
            return len(stamps_s) == 40 and float(np.diff(stamps_s).max()) <= 0.2

        road.until(keeps_its_promise)
        for path in road.paths:
            positions = [pose.pose.position for pose in path.poses]
            assert np.isfinite([(p.x, p.y, p.z) for p in positions]).all()
        road.until(lambda: any("published by others too: /probe" in e for e in road.errors()))
        values = {v.key: v.value for v in road.reports[-1].status[0].values}
        for topic in ("rap/candidates", "odometry", "rap/objects", "route"):
            assert int(values[f"{topic}: problems"]) > 0
        probe.node.destroy_publisher(other)


def test_a_killed_guard_comes_back_waiting_and_lets_the_vehicle_stand():
    with Probe() as probe:
        road = Road(probe, planning=True)
        with Process(GUARD, ACTIVE, PARAMS_FILE) as guard:
            road.until_state(GuardState.NOMINAL)
            guard.end(signal.SIGKILL)
        road.planning = False
        dead_ns = probe.node.get_clock().now().nanoseconds
        with Process(GUARD, ACTIVE, PARAMS_FILE):
            road.until(lambda: len(road.states_since(dead_ns)) > 3)
            assert set(road.states_since(dead_ns)) == {GuardState.WAITING}
            assert len(road.paths[-1].poses) == 1


def test_without_a_clock_the_guard_waits_and_says_why():
    with Probe() as probe, Process(GUARD, ["use_sim_time:=true", *ACTIVE], PARAMS_FILE):
        road = Road(probe)
        road.until(lambda: len(road.paths) > 5 and len(road.reports) > 0)
        assert {state.state for state in road.states} == {GuardState.WAITING}
        texts = [s.message for r in road.reports for s in r.status]
        assert any("no /clock received" in text for text in texts), texts
        clocks = probe.node.create_publisher(Clock, "/clock", STREAM)
        road.until(lambda: clocks.get_subscription_count() == 1)

        def is_second() -> bool:
            """The guard may know of the clock later than the clock of the guard."""
            for sec in (-1, -(2**31), 1):
                clocks.publish(Clock(clock=Time(sec=sec)))
            return stamp_ns(road.states[-1].header.stamp) == SECOND

        road.until(is_second)
        assert {state.state for state in road.states} == {GuardState.WAITING}


def test_an_object_that_is_no_object_hides_no_other_one():
    message = objects_msg(
        TrackedObjects(
            SECOND,
            Boxes.from_rows(
                [
                    (1, 1, 5.0, 0.0, 0.8, 4.0, 2.0, 1.6, 0.0, 1.0, 0.0),
                    (2, 1, math.nan, 0.0, 0.8, 4.0, 2.0, 1.6, 0.0, 1.0, 0.0),
                    (3, 1, 7.0, 0.0, 0.8, 0.0, 2.0, 1.6, 0.0, 1.0, 0.0),
                    (4, 1, 9.0, 0.0, 0.8, 4.0, 2.0, -1.0, 0.0, math.nan, 0.0),
                    (5, 1, 9.0, 0.0, 0.8, 4.0, 1e30, 1.6, 0.0, 1.0, 0.0),
                ]
            ),
            Lights.empty(),
            np.arange(5, dtype=np.float32),
            np.ones(5, np.float32),
        ),
        "map",
    )
    found, problem = usable_objects(message, "map")
    assert found.boxes.ids.tolist() == [1, 4]  # Height and an unknown velocity do not matter.
    assert found.ages_s.tolist() == [0.0, 3.0]
    assert problem.startswith("object 1: place or size is not usable: [nan, ")
    assert problem.endswith(", and 2 more")
    for column in ("ages_s", "existences"):
        short = copy.deepcopy(message)
        setattr(short, column, getattr(short, column)[:-1])
        with pytest.raises(MessageError, match="lengths of object arrays disagree"):
            usable_objects(short, "map")
