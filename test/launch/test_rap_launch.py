"""The launch files on a real ROS installation; without one, test_rap_run.py tests the same things.

pytest 8.4 and later cannot load launch_pytest.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

REASON = "the launch system is not among the ROS wheels; runs on a ROS installation"
launch_pytest = pytest.importorskip("launch_pytest", reason=REASON)
launch = pytest.importorskip("launch", reason=REASON)
pytest.importorskip("launch_ros", reason=REASON)

import rclpy  # noqa: E402 - only where the launch system is
from graph_probe import DOMAIN_ID  # noqa: E402
from launch.actions import (  # noqa: E402
    IncludeLaunchDescription,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessStart  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from rap_msgs.msg import GuardState  # noqa: E402
from rclpy.node import Node  # noqa: E402

FOLDER = Path(__file__).parents[2] / "launch"
FILES = sorted(FOLDER.glob("*.launch.py"))
USUAL_ARGUMENTS = {
    "namespace",
    "params_file",
    "use_sim_time",
    "autostart",
    "use_respawn",
    "log_level",
    "input_odometry",
    "output_trajectory",
}
TIMEOUT_S = 60.0

pytestmark = pytest.mark.ros


def included(name: str, **arguments: str) -> IncludeLaunchDescription:
    source = PythonLaunchDescriptionSource(str(FOLDER / name))
    return IncludeLaunchDescription(source, launch_arguments=arguments.items())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_argument_has_a_description_or_is_passed_on(path):
    description = PythonLaunchDescriptionSource(str(path)).get_launch_description(
        launch.LaunchContext()
    )
    arguments = {argument.name: argument for argument in description.get_launch_arguments()}
    if path.name != "build_engine.launch.py":
        assert arguments.keys() >= USUAL_ARGUMENTS
    own = [a for a in description.entities if isinstance(a, launch.actions.DeclareLaunchArgument)]
    for argument in own:
        assert argument.description != "no description given", argument.name


@launch_pytest.fixture
def stack(tiny_bundle):
    include = included(
        "rap.launch.py", bundle=str(tiny_bundle), namespace="vehicle", output_state="/guard/state"
    )
    domain = SetEnvironmentVariable("ROS_DOMAIN_ID", str(DOMAIN_ID))
    return launch.LaunchDescription([domain, include, launch_pytest.actions.ReadyToTest()])


@pytest.mark.filterwarnings(  # launch leaves the pipe of a killed process open
    "ignore:Exception ignored in. <function BaseSubprocessTransport"
    ":pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.launch(fixture=stack)
def test_a_launched_guard_waits_and_is_back_when_it_was_killed():
    rclpy.init(domain_id=DOMAIN_ID)
    node = Node("probe")
    states: list[GuardState] = []
    node.create_subscription(GuardState, "/guard/state", states.append, 1)
    wait_for_more(node, states)
    assert states[-1].state == GuardState.WAITING
    assert states[-1].reason == "no candidates yet"
    (process,) = guards()
    os.kill(process, signal.SIGKILL)
    while process in guards():
        time.sleep(0.05)
    wait_for_more(node, states)
    assert states[-1].state == GuardState.WAITING
    node.destroy_node()
    rclpy.try_shutdown()


def wait_for_more(node: Node, states: list[GuardState]) -> None:
    count, deadline_s = len(states), time.monotonic() + TIMEOUT_S
    while len(states) == count:
        assert time.monotonic() < deadline_s
        rclpy.spin_once(node, timeout_sec=0.1)


def guards() -> list[int]:
    """Process ids of guards with our remap. Source: proc(5)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if b"guard_node" in words and b"rap/state:=/guard/state" in words and state != "Z":
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("rap.launch.py", {"params_file": "/none.yaml"}),
        ("rap.launch.py", {"map": "/o'none.xodr"}),
        ("rap.launch.py", {"mode": "actve"}),
        ("sim.launch.py", {"map": "/none.xodr"}),
        ("sim.launch.py", {"map": __file__, "routes": "two"}),
        ("replay.launch.py", {"bag": "/none"}),
    ],
)
def test_what_cannot_be_is_an_error_before_anything_is_started(name, arguments):
    started = []
    service = launch.LaunchService()
    service.include_launch_description(
        launch.LaunchDescription(
            [
                RegisterEventHandler(
                    OnProcessStart(on_start=lambda event, context: started.append(event.cmd))
                ),
                included(name, **arguments),
            ]
        )
    )
    assert service.run() == 1
    assert not started


@pytest.mark.parametrize("backend", ["cpu", "nonsense"])
def test_building_engines_that_cannot_be_is_an_error_of_the_launch(backend):
    service = launch.LaunchService()
    service.include_launch_description(
        launch.LaunchDescription([included("build_engine.launch.py", backend=backend)])
    )
    assert service.run() == 1
