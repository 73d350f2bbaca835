"""The graph as real processes: what comes in on topics, what goes out, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from graph_probe import SPEED_MPS, START, Probe, Process, environment
from nav_msgs.msg import Path as PathMsg
from rap_msgs.msg import AlignedFeatures, CameraFrame, GuardState, TrajectoryCandidates

from rap_raster.observations import TrackedObjects
from rap_raster.ros.conversions import stamp_ns
from rap_raster.ros.qos import STREAM
from rap_raster.scene import Boxes, Lights

pytestmark = pytest.mark.ros

GRAPH = "rap_bringup.ros.graph"
PERCEPTION = "rap_perception.ros.perception_node"
RASTER = "rap_raster.ros.raster_node"
PLANNER = "rap_planner.ros.planner_node"
GUARD = "rap_planner.ros.guard_node"
PARAMS_FILE = "config/rap.param.yaml"


def one_car(stamp: int) -> TrackedObjects:
    """Parked beside the drive, however long that lasts: ahead of it, the guard would brake."""
    row = [7, 1, START[0] + 30.0, START[1] + 8.0, 0.8, 4.5, 1.9, 1.6, 0.0, 0.0, 0.0]
    one = np.ones(1, np.float32)
    return TrackedObjects(stamp, Boxes.from_rows([row]), Lights.empty(), 0 * one, one)


# A busy machine must not make the guard stop the vehicle in the middle of a test.
PATIENT_GUARD = ["limits.candidate_age_s:=20.0", "limits.odometry_age_s:=20.0"]


def start_all(stack: ExitStack, bundle: Path, modules: list[str]) -> list[Process]:
    """Starts driving nodes and an active guard."""
    bundle_path = f"bundle.path:={bundle}"
    processes = [Process(module, [bundle_path], PARAMS_FILE) for module in modules]
    processes.append(Process(GUARD, ["mode:=active", *PATIENT_GUARD], PARAMS_FILE))
    for process in processes:
        stack.enter_context(process)
    return processes


@pytest.mark.parametrize(
    "modules", [[GRAPH], [PERCEPTION, RASTER, PLANNER]], ids=["one process", "three processes"]
)
def test_objects_and_odometry_in_trajectories_out_with_the_stamps_of_the_input(
    tiny_bundle, modules
):
    """The tiny planner drives on at constant speed, so every pose is known exactly."""
    with ExitStack() as stack:
        processes = start_all(stack, tiny_bundle, modules)
        probe = stack.enter_context(Probe())
        received = probe.watch(PathMsg, "rap/trajectory")
        states = probe.watch(GuardState, "rap/state")

        def planned() -> list[PathMsg]:
            return [path for path in received if len(path.poses) > 1]  # One pose: it waits.

        probe.drive_until(lambda: len(planned()) > 20, objects=one_car)
        publishers = probe.node.get_publishers_info_by_topic("/rap/trajectory")
        assert [info.node_name for info in publishers] == ["guard_node"]
        ends = [process.end(signal.SIGINT) for process in processes]
    assert [status for status, _ in ends] == [0] * len(ends), ends
    assert GuardState.NOMINAL in {state.state for state in states}
    for message in planned():
        start_ns = stamp_ns(message.header.stamp)
        assert start_ns in probe.fed
        assert message.header.frame_id == "map"
        steps = [(stamp_ns(pose.header.stamp) - start_ns) / 1e8 for pose in message.poses]
        assert steps == list(range(1, 51))
        x_m = [pose.pose.position.x for pose in message.poses]
        expected = probe.ego_x_m(start_ns) + 0.1 * SPEED_MPS * np.arange(1, 51)
        np.testing.assert_allclose(x_m, expected, atol=1e-3)


def test_a_guard_in_shadow_publishes_where_no_controller_reads(tiny_bundle):
    """Shadow is the shipped default; the namespace shows that the file's sections match in one."""
    namespace = ["--remap", "__ns:=/vehicle"]
    with ExitStack() as stack:
        bundle_path = f"bundle.path:={tiny_bundle}"
        for module, parameters in ((GRAPH, [bundle_path]), (GUARD, PATIENT_GUARD)):
            stack.enter_context(Process(module, parameters, PARAMS_FILE, namespace))
        probe = stack.enter_context(Probe("/vehicle"))
        shadow = probe.watch(PathMsg, "rap/shadow/trajectory")
        probe.drive_until(lambda: len(shadow) > 3, objects=one_car)
        assert probe.node.count_publishers("/vehicle/rap/trajectory") == 0
        assert probe.node.count_publishers("/vehicle/rap/shadow/trajectory") == 1


def test_camera_without_calibration_is_reported_and_never_becomes_an_image(tiny_bundle):
    """Two cameras: the calibrated one gives features, the other becomes a raster."""
    cameras = [
        "cameras.names:=[left_cam, front_cam]",
        "cameras.extrinsics.left_cam:=[1.5, 0.0, 1.6, -0.2308, 0.6691, -0.6691, 0.2308]",
        "cameras.extrinsics.front_cam:=[1.5, 0.0, 1.6, -0.5, 0.5, -0.5, 0.5]",
    ]
    with ExitStack() as stack:
        parameters = [f"bundle.path:={tiny_bundle}"]
        stack.enter_context(Process(PERCEPTION, [*parameters, *cameras]))
        independent = "objects.independent_of_cameras:=true"
        stack.enter_context(Process(RASTER, [*parameters, cameras[0], independent]))
        probe = stack.enter_context(Probe())
        probe.add_camera("front_cam", calibrated=True)
        probe.add_camera("left_cam", calibrated=False)
        frames = probe.watch(CameraFrame, "rap/frame")
        features = probe.watch(AlignedFeatures, "rap/features")
        reports = probe.watch(DiagnosticArray, "/diagnostics", STREAM)
        probe.drive_until(lambda: len(features) > 5 and len(reports) > 2, objects=one_car)
        texts = [s.message for r in reports for s in r.status if s.name == "perception_node"]
    assert frames[-1].camera_names == ["front", "front_left", "front_right"]
    assert list(frames[-1].status) == [1, 0, 0]
    assert list(features[-1].sources) == [
        AlignedFeatures.CAMERA,
        AlignedFeatures.RASTER,
        AlignedFeatures.RASTER,
    ]
    assert stamp_ns(features[-1].header.stamp) in probe.fed
    encoded = np.asarray(features[-1].features).reshape(3, 3, 4, 8)
    np.testing.assert_allclose(encoded[0], 100 / 255, atol=1e-5)
    expected = "left_cam: no camera_info received on /camera/left_cam/camera_info"
    assert any(expected in text for text in texts), texts


def test_without_objects_a_missing_camera_is_masked_not_black(tiny_bundle):
    cameras = [
        "cameras.names:=[front_cam]",
        "cameras.extrinsics.front_cam:=[1.5, 0.0, 1.6, -0.5, 0.5, -0.5, 0.5]",
    ]
    with ExitStack() as stack:
        parameters = [f"bundle.path:={tiny_bundle}"]
        stack.enter_context(Process(PERCEPTION, [*parameters, *cameras]))
        stack.enter_context(Process(RASTER, [*parameters, cameras[0]]))
        stack.enter_context(Process(PLANNER, parameters))
        probe = stack.enter_context(Probe())
        probe.add_camera("front_cam", calibrated=True)
        features = probe.watch(AlignedFeatures, "rap/features")
        candidates = probe.watch(TrajectoryCandidates, "rap/candidates")
        probe.drive_until(lambda: len(features) > 3 and len(candidates) > 3)
    assert list(features[-1].sources) == [
        AlignedFeatures.CAMERA,
        AlignedFeatures.MISSING,
        AlignedFeatures.MISSING,
    ]
    assert stamp_ns(candidates[-1].header.stamp) in probe.fed


@pytest.mark.parametrize("module", [GRAPH, GUARD])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_process_with_status_zero(tiny_bundle, module, number):
    parameters = [] if module == GUARD else [f"bundle.path:={tiny_bundle}"]
    with Probe() as probe, Process(module, parameters) as process:
        reports = probe.watch(DiagnosticArray, "/diagnostics", STREAM)
        probe.drive_until(lambda: len(reports) > 0)
        status, errors = process.end(number)
    assert status == 0, errors
    assert "Traceback" not in errors


def run_to_end(module: str, arguments: list[str]) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", module, "--ros-args", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ("rate_herz:=10.0", "rate_herz: unknown parameter"),
        ("rate_hz:=fast", "rate_hz"),
        ("rate_hz:=1000.0", "out of range"),
        ("mode:=enabled", "mode: is 'enabled', expected one of active, shadow"),
    ],
)
def test_bad_parameter_ends_a_node_with_one_line(parameter, expected):
    status, lines = run_to_end(GUARD, ["-p", parameter])
    assert status == 1
    assert len(lines) == 1
    assert expected in lines[0]


@pytest.mark.parametrize(
    ("node", "parameter", "expected"),
    [
        ("planner_node", "bundle.path:=/elsewhere", "bundle.path: perception_node has "),
        ("raster_node", "cameras.names:=[front]", "cameras.names: perception_node has "),
    ],
)
def test_nodes_of_one_process_must_be_set_alike(tiny_bundle, node, parameter, expected):
    """Else one plans on the features of another's network, and says that all is well."""
    arguments = ["-p", f"bundle.path:={tiny_bundle}", "-p", f"{node}:{parameter}"]
    status, lines = run_to_end(GRAPH, arguments)
    assert status == 1
    assert len(lines) == 1
    assert expected in lines[0]
    assert lines[0].endswith("; in one process they must have the same")
