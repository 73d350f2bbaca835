"""The launch file under the launch system of a real ROS installation.

The same scenario runs without it in `test_graph_processes.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

REASON = "the launch system is not among the ROS wheels; runs on a ROS installation"
launch_pytest = pytest.importorskip("launch_pytest", reason=REASON)
launch = pytest.importorskip("launch", reason=REASON)
pytest.importorskip("launch_ros", reason=REASON)

import rclpy  # noqa: E402 - only where the launch system is
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from rap_msgs.msg import GuardState  # noqa: E402
from rclpy.node import Node  # noqa: E402

LAUNCH_FILE = Path(__file__).parents[2] / "launch" / "rap.launch.py"
TIMEOUT_S = 30.0

pytestmark = pytest.mark.ros


@launch_pytest.fixture
def stack(tiny_bundle):
    source = PythonLaunchDescriptionSource(str(LAUNCH_FILE))
    arguments = {"bundle": str(tiny_bundle), "namespace": "vehicle"}.items()
    return launch.LaunchDescription(
        [
            IncludeLaunchDescription(source, launch_arguments=arguments),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.launch(fixture=stack)
def test_launched_guard_reports_that_it_waits():
    rclpy.init()
    node = Node("probe")
    states: list[GuardState] = []
    node.create_subscription(GuardState, "/vehicle/rap/state", states.append, 1)
    deadline_ns = node.get_clock().now().nanoseconds + TIMEOUT_S * 1e9
    while not states and node.get_clock().now().nanoseconds < deadline_ns:
        rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_node()
    rclpy.try_shutdown()
    assert states
    assert states[0].state == GuardState.WAITING
    assert states[0].reason == "no candidates yet"
