"""Replay end to end: a bag goes through the real node processes, and the figures are known.

The tiny planner continues at the current speed straight ahead, and the drive does just that, so
its error is zero.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import astuple
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.rosbag2 import StoragePlugin, Writer

from rap_bringup.bag_types import header, message, serialized, typestore
from rap_bringup.bags import (
    camera_info_message,
    extrinsics_message,
    odometry_message,
    write_bag,
)
from rap_bringup.drive_report import read_drive, report
from rap_bringup.drives.bag import read_bag
from rap_bringup.drives.odometry import densified, states_from_poses
from rap_bringup.drives.recorded_drive import (
    CameraImage,
    RecordedCamera,
    RecordedDrive,
    RecordedObjects,
)
from rap_evaluation.drive_export import recorded_drive, whole_drive
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.drive_recording import recording_of
from rap_evaluation.logs.log_writer import write_log
from rap_inference.bundle import file_sha256
from rap_raster.camera import CameraModel, optical_rotation
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Boxes, Lights, LineKind, Shapes

pytestmark = [pytest.mark.ros, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
START_NS = 20_000_000_000
STEP_NS = 100_000_000
SPEED_MPS = 6.0
VIEWS_RAD = {"ahead": 0.05, "left": 0.9, "right": -0.9}


def straight_drive(steps: int, *, with_cameras: bool) -> RecordedDrive:
    stamps = START_NS + np.arange(steps) * STEP_NS
    x = 500.0 + SPEED_MPS * np.arange(steps) * 0.1
    poses = np.column_stack([x, np.full(steps, -200.0), np.zeros(steps), np.zeros(steps)])
    car = Boxes.from_rows([[3, 1, 540.0, -196.5, 0.8, 4.5, 1.9, 1.6, 3.1, 0.0, 0.0]])
    edge = [[480.0, -198.0, 0.0], [600.0, -198.0, 0.0]]
    return RecordedDrive(
        name="straight",
        license="none needed",
        map=VectorMap("straight", Shapes.from_list([(LineKind.LANE_BOUNDARY, edge)]), NO_AREAS),
        ego=states_from_poses(*densified(stamps, poses)),
        objects=tuple(RecordedObjects(int(stamp), car, Lights.empty()) for stamp in stamps),
        cameras=cameras(stamps) if with_cameras else (),
        route_m=np.column_stack([np.arange(480.0, 620.0, 5.0), np.full(28, -200.0), np.zeros(28)]),
        route_source="made for the test",
    )


NO_AREAS = Shapes.from_list([])


def cameras(stamps) -> tuple[RecordedCamera, ...]:
    rng = np.random.default_rng(1)
    picture = cv2.resize(rng.integers(0, 255, (8, 16, 3), np.uint8), (320, 160))
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    result = []
    for name, yaw_rad in VIEWS_RAD.items():
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = optical_rotation(yaw_rad), [1.6, 0.0, 1.5]
        model = CameraModel(name, 320, 160, 200.0, 200.0, 159.5, 79.5, pose)
        result.append(RecordedCamera(model, tuple(CameraImage(int(s), jpeg) for s in stamps)))
    return tuple(result)


def rap(*arguments: object, modules: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command in a domain it chooses itself; modules of a folder come before others."""
    environment = {k: v for k, v in os.environ.items() if k != "ROS_DOMAIN_ID"}
    if modules is not None:
        paths = (str(modules), environment.get("PYTHONPATH", ""))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return subprocess.run(
        [sys.executable, "-m", "rap_bringup.cli", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def raster_replay(tiny_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raster_replay")
    write_bag(straight_drive(45, with_cameras=False), folder / "bag")
    done = rap("replay", folder / "bag", "--bundle", tiny_bundle, "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder / "out"


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def decoded(folder: Path, topic: str) -> list:
    """Reads `drive.mcap` with a reader that is not the one we write with."""
    with (folder / "drive.mcap").open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        return [content for *_, content in reader.iter_decoded_messages(topics=[topic])]


def stamp_ns(stamp) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def test_every_step_is_answered_from_rasters_and_the_route(raster_replay):
    summary = summary_of(raster_replay)
    assert summary["steps"] == summary["frames"] == 45
    assert summary["trajectories"] >= 43
    assert summary["max_gap_s"] <= 0.3
    assert summary["feature_source"]["camera"] == summary["feature_source"]["missing"] == 0
    assert summary["feature_source"]["raster"] >= 3 * 43
    assert summary["command_source"] == "route"
    assert summary["duration_s"] == pytest.approx(4.4)
    assert summary["bundle"]["name"] == "tiny"
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"]


def test_a_planner_that_is_right_has_no_error(raster_replay):
    summary = summary_of(raster_replay)
    assert summary["ade_steps"] >= 13
    assert summary["ade_3s_m"] == pytest.approx(0.0, abs=0.02)
    assert summary["ade_3s_constant_velocity_m"] == pytest.approx(0.0, abs=1e-3)


def test_the_report_of_what_was_recorded_agrees(raster_replay):
    """Its plans are the published trajectories; those of the summary are the best candidates."""
    found = report(read_drive(raster_replay / "drive.mcap"))
    assert found["mode"] == "active"
    assert found["states"]["nominal"]["share"] > 0.5
    assert found["ade_plans"] > 0
    assert found["ade_3s_m"] == pytest.approx(0.0, abs=0.02)
    driven_m = SPEED_MPS * summary_of(raster_replay)["duration_s"]
    assert found["driven_m"] == pytest.approx(driven_m, rel=0.05)


def test_trajectories_carry_the_stamps_of_steps_and_timed_poses_on_the_path(raster_replay):
    steps = {START_NS + k * STEP_NS for k in range(45)}
    paths = decoded(raster_replay, "/rap/trajectory")
    answered = [path for path in paths if stamp_ns(path.header.stamp) in steps]
    assert len({stamp_ns(path.header.stamp) for path in answered}) >= 43
    path = answered[len(answered) // 2]
    start_ns = stamp_ns(path.header.stamp)
    start_x = 500.0 + SPEED_MPS * (start_ns - START_NS) * 1e-9
    assert path.header.frame_id == "map"
    for k, pose in enumerate(path.poses, start=1):
        assert stamp_ns(pose.header.stamp) == start_ns + k * STEP_NS
        assert pose.pose.position.x == pytest.approx(start_x + SPEED_MPS * 0.1 * k, abs=0.05)
        assert pose.pose.position.y == pytest.approx(-200.0, abs=0.01)


def test_recording_holds_inputs_and_outputs(raster_replay):
    assert len(decoded(raster_replay, "/objects")) == 45
    assert len(decoded(raster_replay, "/rap/map")) == len(decoded(raster_replay, "/route")) == 1
    assert len(decoded(raster_replay, "/rap/candidates")) >= 43
    assert decoded(raster_replay, "/rap/state")


def test_recording_becomes_a_log_and_a_bag_with_the_same_objects_and_poses(raster_replay, tmp_path):
    true = read_bag(raster_replay / "drive.mcap")
    write_log(tmp_path / "log", recording_of(true))
    log = DriveLog.open(tmp_path / "log")
    write_bag(recorded_drive(log, log.egos[0], *whole_drive(log, log.egos[0])), tmp_path / "bag")
    found = read_bag(tmp_path / "bag")
    assert [step.stamp_ns for step in found.objects] == [step.stamp_ns for step in true.objects]
    for step, expected in zip(found.objects, true.objects, strict=True):
        assert step.boxes.ids.tolist() == expected.boxes.ids.tolist()
        for name in ("classes", "centers_m", "sizes_m", "yaws_rad"):
            one, other = getattr(step.boxes, name), getattr(expected.boxes, name)
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    driven = {state.stamp_ns: state for state in true.ego}
    assert len(found.ego) == len(true.objects)
    for state in found.ego:
        assert astuple(state) == pytest.approx(astuple(driven[state.stamp_ns]), abs=1e-6)


def test_overview_shows_rasters_and_the_scene_from_above(raster_replay):
    picture = cv2.imread(str(raster_replay / "overview.png"))
    assert picture is not None
    assert picture.shape[1] == 1536
    assert picture.std() > 5


def test_features_come_from_the_cameras_of_a_bag_that_has_them(tiny_bundle, tmp_path):
    write_bag(straight_drive(8, with_cameras=True), tmp_path / "bag")
    done = rap("demo", "--bag", tmp_path / "bag", "--bundle", tiny_bundle, "--out", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    summary = summary_of(tmp_path / "o")
    assert summary["steps"] == 8
    assert summary["trajectories"] >= 7
    assert summary["feature_source"]["raster"] == 0
    assert summary["feature_source"]["camera"] >= 3 * 7
    assert summary["ade_3s_m"] is None
    assert (tmp_path / "o" / "drive.rrd").stat().st_size > 1000
    assert (tmp_path / "o" / "overview.png").exists()
    assert "drive.rrd" in done.stdout


def test_a_demo_without_the_viewer_leaves_all_but_its_file_and_says_so(tiny_bundle, tmp_path):
    """As on a vehicle, where rerun-sdk is not installed."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "rerun.py").write_text("raise ImportError('not installed')\n")
    write_bag(straight_drive(3, with_cameras=False), tmp_path / "bag")
    arguments = (
        "demo",
        "--bag",
        tmp_path / "bag",
        "--bundle",
        tiny_bundle,
        "--out",
        tmp_path / "o",
    )
    done = rap(*arguments, modules=tmp_path / "modules")
    assert done.returncode == 0, done.stderr
    assert "No Rerun file: drive.rrd needs rerun-sdk: pip install rerun-sdk\n" in done.stdout
    assert (
        f"trajectories                 {summary_of(tmp_path / 'o')['trajectories']}" in done.stdout
    )
    left = {path.name for path in (tmp_path / "o").iterdir()}
    assert {"drive.mcap", "summary.json", "overview.png"} <= left
    assert "drive.rrd" not in left


def write_foreign_bag(folder: Path, *, steps: int) -> None:
    """Writes what other tools record: sqlite3, no leading slashes, raw images and other topics.

    Cameras are triggered one after the other, the front one first, and calibrations come once.
    There are neither objects nor map nor route, and the extrinsics are dated long before.
    """
    drive = straight_drive(steps, with_cameras=True)
    delays_ns = {"ahead": 0, "left": 15_000_000, "right": 30_000_000}
    with Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        add = partial(writer.add_connection, typestore=typestore())
        odometry = add("odometry", "nav_msgs/msg/Odometry")
        images = {name: add(f"camera/{name}/image", "sensor_msgs/msg/Image") for name in delays_ns}
        output = add("rap/trajectory", "nav_msgs/msg/Path")
        unknown = writer.add_connection(
            "lidar", "vendor_msgs/msg/Packet", msgdef="uint8 x", rihs01="RIHS01_" + 64 * "0"
        )
        calibrations = [
            (add(f"camera/{c.model.name}/camera_info", "sensor_msgs/msg/CameraInfo"), c.model)
            for c in drive.cameras
        ]
        for connection, model in calibrations:
            writer.write(connection, START_NS, serialized(camera_info_message(model, START_NS)))
        extrinsics = add("tf_static", "tf2_msgs/msg/TFMessage")
        writer.write(extrinsics, 1, serialized(extrinsics_message(drive.cameras)))
        for state in drive.ego:
            writer.write(odometry, state.stamp_ns, serialized(odometry_message(state)))
            writer.write(unknown, state.stamp_ns, b"\0\1\0\0\7")
            writer.write(output, state.stamp_ns, b"of an earlier drive")
        for camera in drive.cameras:
            name = camera.model.name
            for image in camera.images:
                stamp = image.stamp_ns + delays_ns[name]
                writer.write(images[name], stamp, serialized(grey_image(stamp, name)))


def grey_image(stamp: int, name: str):
    return message(
        "sensor_msgs/msg/Image",
        header=header(stamp, name),
        height=160,
        width=320,
        encoding="mono8",
        is_bigendian=0,
        step=320,
        data=np.full(160 * 320, 90, np.uint8),
    )


def test_a_bag_of_another_tool_drives_with_all_its_cameras(tiny_bundle, tmp_path):
    write_foreign_bag(tmp_path / "bag", steps=12)
    done = rap("replay", tmp_path / "bag", "--bundle", tiny_bundle, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    summary = summary_of(tmp_path / "out")
    assert summary["steps"] == 12
    assert summary["trajectories"] >= 11
    assert summary["feature_source"]["raster"] == 0
    assert summary["feature_source"]["missing"] <= 1  # the very first images may be missed
    assert summary["command_source"] == "none"
    paths = decoded(tmp_path / "out", "/rap/trajectory")
    assert all(path.header.frame_id == "map" for path in paths if len(path.poses) > 1)
    assert not decoded(tmp_path / "out", "/lidar")


def children_of(pid: int) -> set[int]:
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.add(int(status.parent.name))
    return found


def test_a_terminated_replay_leaves_no_node_behind(tiny_bundle, tmp_path):
    write_bag(straight_drive(60, with_cameras=False), tmp_path / "bag")
    arguments = ["replay", tmp_path / "bag", "--bundle", tiny_bundle, "--out", tmp_path / "out"]
    environment = {k: v for k, v in os.environ.items() if k != "ROS_DOMAIN_ID"}
    with subprocess.Popen(
        [sys.executable, "-m", "rap_bringup.cli", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as replay:
        deadline_s = time.monotonic() + 60.0
        while len(nodes := children_of(replay.pid)) < 2 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        replay.send_signal(signal.SIGTERM)
        _, errors = replay.communicate(timeout=60)
    assert len(nodes) == 2
    assert replay.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    assert not [pid for pid in nodes if Path(f"/proc/{pid}").exists()]


def test_a_sourced_ros_of_another_python_is_told_in_one_line(tmp_path):
    (tmp_path / "rclpy").mkdir()
    (tmp_path / "rclpy" / "__init__.py").write_text("raise ImportError('not for this Python')")
    ended = rap("replay", tmp_path, "--out", tmp_path / "out", modules=tmp_path)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("rap: not for this Python: source your ROS, or run make setup")


def test_results_do_not_go_into_the_bag_itself(tiny_bundle, tmp_path):
    write_bag(straight_drive(3, with_cameras=False), tmp_path / "drive")
    before = (tmp_path / "drive" / "drive.mcap").read_bytes()
    bag = tmp_path / "drive"
    done = rap("replay", bag, "--bundle", tiny_bundle, "--out", bag)
    assert done.returncode == 1
    assert "is the bag itself" in done.stderr
    assert (bag / "drive.mcap").read_bytes() == before


def test_a_network_that_does_not_load_ends_the_replay_with_its_real_reason(tiny_bundle, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    (bundle / "planner.onnx").write_bytes(b"not a network")
    manifest = (bundle / "bundle.yaml").read_text()
    hashes = [file_sha256(folder / "planner.onnx") for folder in (tiny_bundle, bundle)]
    (bundle / "bundle.yaml").write_text(manifest.replace(*hashes))
    write_bag(straight_drive(3, with_cameras=False), tmp_path / "bag")
    done = rap("replay", tmp_path / "bag", "--bundle", bundle, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "planner.onnx: not a usable network" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("break_it", "text"),
    [
        (lambda bundle: (bundle / "encoder.onnx").write_bytes(b"x"), "encoder.onnx: sha256 is"),
        (lambda bundle: (bundle / "bundle.yaml").unlink(), "bundle.yaml: cannot be read"),
    ],
)
def test_a_corrupt_bundle_is_one_line_before_anything_starts(tiny_bundle, tmp_path, break_it, text):
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    break_it(bundle)
    write_bag(straight_drive(3, with_cameras=False), tmp_path / "bag")
    done = rap("replay", tmp_path / "bag", "--bundle", bundle, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert text in done.stderr
    assert not (tmp_path / "out" / "drive.log").exists()


def test_what_is_not_a_bag_is_one_line(tiny_bundle, tmp_path):
    done = rap("replay", tmp_path, "--bundle", tiny_bundle, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "not a rosbag2 folder" in done.stderr
    assert "Traceback" not in done.stderr
