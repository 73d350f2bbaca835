"""The guard's trajectory as Autoware reads it; its messages are not among the ROS wheels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Pose
from graph_probe import DOMAIN_ID
from rclpy.parameter import Parameter
from std_msgs.msg import Header

from rap_planner.ros import autoware_output
from rap_planner.ros.autoware_output import AutowareOutput, autoware_msg
from rap_planner.ros.guard_node import GuardNode
from rap_planner.trajectory import STEP_S, Trajectory

WHEEL_BASE_M = 3.0
STAMP_NS = 7_250_000_000


@dataclass
class Point:
    """autoware_planning_msgs/TrajectoryPoint, field by field."""

    time_from_start: Duration = field(default_factory=Duration)
    pose: Pose = field(default_factory=Pose)
    longitudinal_velocity_mps: float = 0.0
    lateral_velocity_mps: float = 0.0
    acceleration_mps2: float = 0.0
    heading_rate_rps: float = 0.0
    front_wheel_angle_rad: float = 0.0
    rear_wheel_angle_rad: float = 0.0


@dataclass
class Message:
    """autoware_planning_msgs/Trajectory."""

    header: Header = field(default_factory=Header)
    points: list[Point] = field(default_factory=list)


def converted(poses_m, z_m: float = 0.0) -> Message:
    trajectory = Trajectory(STAMP_NS, np.asarray(poses_m, float), z_m)
    return autoware_msg(Message, Point, trajectory, frame_id="map", wheel_base_m=WHEEL_BASE_M)


def seconds(point: Point) -> float:
    return point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec


def test_a_circle_at_constant_speed_has_its_speed_turn_rate_and_steering_angle():
    radius_m, speed_mps = 20.0, 5.0
    angles = speed_mps / radius_m * STEP_S * np.arange(1, 41)
    poses = np.stack([radius_m * np.sin(angles), radius_m * (1 - np.cos(angles)), angles], 1)
    message = converted(poses, z_m=4.0)
    assert message.header.frame_id == "map"
    stamp = message.header.stamp
    assert (stamp.sec, stamp.nanosec) == (7, 250_000_000)
    assert [seconds(point) for point in message.points] == pytest.approx(
        [0.1 * step for step in range(1, 41)]
    )
    for point, (x_m, y_m, yaw_rad) in zip(message.points, poses, strict=True):
        assert (point.pose.position.x, point.pose.position.y) == (x_m, y_m)
        assert point.pose.position.z == 4.0
        assert 2 * np.arctan2(point.pose.orientation.z, point.pose.orientation.w) == pytest.approx(
            yaw_rad
        )
        assert point.longitudinal_velocity_mps == pytest.approx(speed_mps, rel=1e-3)
        assert point.heading_rate_rps == pytest.approx(speed_mps / radius_m)
        assert point.front_wheel_angle_rad == pytest.approx(
            np.arctan(WHEEL_BASE_M / radius_m), rel=1e-3
        )
        assert point.acceleration_mps2 == pytest.approx(0.0, abs=0.02)


def test_braking_has_its_deceleration():
    times = STEP_S * np.arange(1, 31)
    ahead_m = 8.0 * times - 0.5 * 2.0 * times**2
    message = converted(np.stack([ahead_m, 0 * times, 0 * times], 1))
    inner = message.points[2:-2]
    assert [point.acceleration_mps2 for point in inner] == pytest.approx([-2.0] * len(inner))
    assert [point.longitudinal_velocity_mps for point in inner] == pytest.approx(
        list(8.0 - 2.0 * times[2:-2])
    )


def test_to_stand_are_two_points_without_speed_for_one_alone_would_be_ignored():
    first, second = converted([[3.0, 4.0, np.pi / 2]]).points
    assert (first.pose.position.x, first.pose.position.y) == (3.0, 4.0)
    assert (second.pose.position.x, second.pose.position.y) == pytest.approx((3.0, 5.0))
    assert first.pose.orientation == second.pose.orientation
    assert seconds(first) < seconds(second)
    assert first.longitudinal_velocity_mps == second.longitudinal_velocity_mps == 0.0


class Publisher:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.publish = self.messages.append


class NodeStub:
    def __init__(self) -> None:
        self.publisher = Publisher()

    def advertise(self, kind, topic, profile) -> Publisher:
        return self.publisher


def test_a_pose_in_the_base_frame_is_not_for_autoware(monkeypatch):
    classes = {"Trajectory": Message, "TrajectoryPoint": Point}
    monkeypatch.setattr(autoware_output, "message_class", lambda name: classes[name.split("/")[1]])
    node = NodeStub()
    output = AutowareOutput(node, "rap/autoware_trajectory", "map", WHEEL_BASE_M)
    output.publish(Trajectory.standing(STAMP_NS, None))
    assert not node.publisher.messages
    output.publish(Trajectory(STAMP_NS, np.full((50, 3), 3.0), 1.0))
    assert len(node.publisher.messages) == 1


def test_odometry_that_stops_coming_lets_autoware_stand_too(monkeypatch):
    """What was sent last must not stay in force, while the guard says to stand."""
    classes = {"Trajectory": Message, "TrajectoryPoint": Point}
    monkeypatch.setattr(autoware_output, "message_class", lambda name: classes[name.split("/")[1]])
    node = NodeStub()
    output = AutowareOutput(node, "rap/autoware_trajectory", "map", WHEEL_BASE_M)
    ahead = np.linspace([30.0, 2.0, 0.1], [60.0, 2.0, 0.1], 50)
    output.publish(Trajectory(STAMP_NS, ahead, 1.0))
    output.publish(Trajectory.standing(STAMP_NS + 10**9, None))
    moving, standing = node.publisher.messages
    assert moving.points[0].longitudinal_velocity_mps > 0.0
    assert {point.longitudinal_velocity_mps for point in standing.points} == {0.0}
    assert standing.points[0].pose.position.x == 30.0
    assert standing.header.stamp.sec == moving.header.stamp.sec + 1


@pytest.mark.ros
def test_where_the_messages_are_missing_the_guard_says_what_to_install():
    rclpy.init(domain_id=DOMAIN_ID)
    node = GuardNode(overrides=[Parameter("autoware_trajectory", value="on")])
    try:
        node.trigger_configure()
        assert node._failure.endswith(
            "autoware_trajectory: autoware_planning_msgs/Trajectory is not installed: "
            "apt install ros-jazzy-autoware-planning-msgs"
        )
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
