"""Where the planner node goes: the command topic before the route, neither before anything."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import rclpy
import yaml
from bundles import CHANNELS, COLUMNS, PROPOSALS, ROWS, STEPS, write_tiny_bundle
from geometry_msgs.msg import PoseStamped
from graph_probe import DOMAIN_ID
from nav_msgs.msg import Odometry, Path
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from std_msgs.msg import UInt8
from visualization_msgs.msg import Marker, MarkerArray

from rap_inference.bundle import load_bundle
from rap_planner.ros import planner_node
from rap_planner.ros.planner_node import PlannerNode
from rap_planner.route import Command
from rap_raster.encoder import nominal_rig
from rap_raster.features import AlignedFeatures
from rap_raster.ros.conversions import path_points
from rap_raster.ros.ego_input import EgoInput
from rap_raster.ros.qos import LATCHED, RESULT

pytestmark = pytest.mark.ros

ROUTE_POINTS, SPACING_M = 4, 5.0
SPINS = 100


class Recorder:
    """A network that says nothing and remembers what it was asked."""

    asked: ClassVar[list[dict[str, np.ndarray]]] = []

    def __init__(self, _path, *, threads: int) -> None:
        self.asked.clear()

    def run(self, inputs):
        self.asked.append(inputs)
        zeros = np.zeros((1, PROPOSALS, STEPS, 3), np.float32)
        return {"proposals": zeros, "scores": zeros[..., 0, 0]}


@pytest.fixture
def bundle(tmp_path):
    """The tiny bundle with a route input."""
    path = write_tiny_bundle(tmp_path) / "bundle.yaml"
    route = {"route": {"points": ROUTE_POINTS, "spacing_m": SPACING_M}}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | route))
    return load_bundle(tmp_path)


@pytest.fixture
def features(bundle):
    rig = nominal_rig(bundle)
    return AlignedFeatures(
        stamp_ns=0,
        sources=np.ones(len(rig), np.uint8),
        maps=np.zeros((len(rig), CHANNELS, ROWS, COLUMNS), np.float32),
        intrinsics=np.array([(c.fx, c.fy, c.cx, c.cy) for c in rig]),
        ego_from_camera=np.stack([c.ego_from_camera for c in rig]),
        alignment_distance=np.full(len(rig), np.nan, np.float32),
    )


@pytest.fixture
def graph(bundle, monkeypatch):
    """A planner node that stands at the origin, publishers to it, and an executor."""
    monkeypatch.setattr("rap_inference.backends.OnnxRuntimeNetwork", Recorder)
    rclpy.init(domain_id=DOMAIN_ID)
    ego = EgoInput("map", "base_link")
    ego.receive(standing_at(0))
    node = PlannerNode(overrides=[Parameter("bundle.path", value=str(bundle.path))], ego=ego)
    probe = rclpy.create_node("guide")
    executor = SingleThreadedExecutor()
    for each in (node, probe):
        executor.add_node(each)
    node.trigger_configure()
    node.trigger_activate()
    yield node, probe, executor
    executor.shutdown()
    node.destroy_node()
    probe.destroy_node()
    rclpy.try_shutdown()


def standing_at(second: int) -> Odometry:
    odometry = Odometry(child_frame_id="base_link")
    odometry.header.frame_id, odometry.header.stamp.sec = "map", second
    odometry.pose.pose.orientation.w = 1.0
    return odometry


def route_msg() -> Path:
    message = Path()
    message.header.frame_id = "map"
    for x_m in (-10.0, 0.0, 50.0):
        pose = PoseStamped()
        pose.pose.position.x = x_m
        message.poses.append(pose)
    return message


def asked_after(graph, features, expected: Command) -> dict[str, np.ndarray]:
    """Plans until the network is given a command; messages take their time."""
    node, _, executor = graph
    for _ in range(SPINS):
        executor.spin_once(timeout_sec=0.05)
        node.process(features)
        if Recorder.asked[-1]["command"][0, expected]:
            break
    return Recorder.asked[-1]


def command_publisher(graph) -> Publisher:
    _, probe, executor = graph
    commands = probe.create_publisher(UInt8, "command", RESULT)
    while not commands.get_subscription_count():
        executor.spin_once(timeout_sec=0.05)
    return commands


def test_the_command_topic_wins_over_the_route_and_hides_it(graph, features):
    _, probe, _ = graph
    neither = asked_after(graph, features, Command.UNKNOWN)
    assert (neither["route"] == 0.0).all()
    probe.create_publisher(Path, "route", LATCHED).publish(route_msg())
    along = asked_after(graph, features, Command.STRAIGHT)
    expected = [[SPACING_M * k, 0.0, 1.0] for k in range(ROUTE_POINTS)]
    np.testing.assert_allclose(along["route"][0], expected, atol=1e-6)
    commands = command_publisher(graph)
    commands.publish(UInt8(data=int(Command.LEFT)))
    told = asked_after(graph, features, Command.LEFT)
    assert told["command"][0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert (told["route"] == 0.0).all()


def test_candidates_are_drawn_for_whoever_looks(graph, features):
    node, probe, executor = graph
    seen: list[MarkerArray] = []
    probe.create_subscription(MarkerArray, "rap/candidates/markers", seen.append, RESULT)
    for _ in range(SPINS):
        node.process(features)
        executor.spin_once(timeout_sec=0.05)
        if seen:
            break
    everybody, best = seen[0].markers
    assert (everybody.type, best.type) == (Marker.LINE_LIST, Marker.LINE_STRIP)
    assert len(everybody.points) == len(everybody.colors) == 2 * PROPOSALS * STEPS
    assert len(best.points) == STEPS + 1


def test_unknown_gives_the_way_back_to_the_route(graph, features):
    _, probe, _ = graph
    probe.create_publisher(Path, "route", LATCHED).publish(route_msg())
    commands = command_publisher(graph)
    commands.publish(UInt8(data=int(Command.RIGHT)))
    assert asked_after(graph, features, Command.RIGHT)["command"][0, Command.RIGHT]
    commands.publish(UInt8(data=int(Command.UNKNOWN)))
    along = asked_after(graph, features, Command.STRAIGHT)
    assert along["command"][0, Command.STRAIGHT]
    assert along["route"].any()


def test_a_route_that_is_sent_again_is_not_read_again(graph, features, monkeypatch):
    """Thousands of poses take longer to read than images may wait; some send them every second."""
    node, probe, executor = graph
    read = []
    monkeypatch.setattr(
        planner_node, "path_points", lambda *given: read.append(1) or path_points(*given)
    )
    routes = probe.create_publisher(Path, "route", LATCHED)
    message = route_msg()
    routes.publish(message)
    asked_after(graph, features, Command.STRAIGHT)
    for second in range(1, 4):
        message.header.stamp.sec = second
        routes.publish(message)
        executor.spin_once(timeout_sec=0.05)
    message.poses[-1].pose.position.y = 5.0
    routes.publish(message)
    for _ in range(SPINS):
        executor.spin_once(timeout_sec=0.05)
        if len(read) > 1:
            break
    assert len(read) == 2
    assert node._route_m[-1].tolist() == [50.0, 5.0, 0.0]


def test_the_plan_that_tries_the_network_out_is_no_wait(graph, features):
    """It stands at time 0. Taken for a wait, it lasted since 1970 when the drive began."""
    node, _, executor = graph
    node._ego.receive(standing_at(1_700_000_000))
    node.process(replace(features, stamp_ns=1_700_000_000_000_000_000))
    for _ in range(SPINS):
        executor.spin_once(timeout_sec=0.05)
        if node._last is not None:
            break
    assert (node._last.scores == 0.0).all()  # As the network said.


def test_a_command_does_not_outlive_the_drive_it_was_given_in(graph, features):
    node, _, _ = graph
    commands = command_publisher(graph)
    commands.publish(UInt8(data=int(Command.LEFT)))
    assert asked_after(graph, features, Command.LEFT)["command"][0, Command.LEFT]
    node.trigger_deactivate()
    node.trigger_activate()
    node.process(features)
    assert Recorder.asked[-1]["command"][0, Command.UNKNOWN]
