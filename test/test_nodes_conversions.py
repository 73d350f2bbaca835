"""Messages and dataclasses are each other's inverse, and bad messages are refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, Quaternion
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMsg
from rap_msgs.msg import MapPrimitives
from rclpy.serialization import serialize_message

from rap_planner.candidates import Candidates
from rap_planner.ros.candidate_markers import LEAST_OPACITY, candidate_markers
from rap_planner.ros.conversions import candidates_from_msg, candidates_msg, last_pose
from rap_planner.route import Command
from rap_raster.ego_history import EgoState
from rap_raster.features import AlignedFeatures
from rap_raster.maps.vector_map import VectorMap
from rap_raster.observations import CameraFrame, TrackedObjects
from rap_raster.ros import conversions
from rap_raster.scene import Boxes, Lights, Shapes

STAMP_NS = 1_700_000_000_123_456_789


def poses(count: int) -> np.ndarray:
    result = np.tile(np.eye(4), (count, 1, 1))
    result[:, :3] = np.arange(12 * count).reshape(count, 3, 4)
    return result


def assert_same(first: object, second: object) -> None:
    """Compares dataclasses field by field, arrays to float32."""
    for name in type(first).__dataclass_fields__:
        one, other = getattr(first, name), getattr(second, name)
        if hasattr(one, "__dataclass_fields__"):
            assert_same(one, other)
        elif isinstance(one, np.ndarray):
            assert one.shape == other.shape, name
            np.testing.assert_allclose(one, other, rtol=1e-6, err_msg=name)
        else:
            assert one == other, name


def test_stamps_survive_to_the_nanosecond():
    assert conversions.stamp_ns(conversions.time_msg(STAMP_NS)) == STAMP_NS


@pytest.mark.parametrize("count", [0, 2])
def test_objects_round_trip(count):
    row = [7, 1, 1e6, 2e6, 3.0, 4.5, 2.0, 1.5, 0.3, 5.0, np.nan]
    boxes = Boxes.from_rows([[*row[:0], index + 1, *row[1:]] for index in range(count)])
    lights = Lights(np.array([30], np.uint8), np.ones((1, 3)), np.ones((1, 3)), np.zeros(1))
    ones = np.ones(count, np.float32)
    objects = TrackedObjects(STAMP_NS, boxes, lights, 0.5 * ones, ones)
    message = conversions.objects_msg(objects, "map")
    assert_same(conversions.objects_from_msg(message, "map"), objects)


def test_map_round_trip():
    lines = Shapes.from_list([(10, np.ones((3, 3))), (14, np.zeros((2, 3)))])
    areas = Shapes.from_list([(20, np.arange(12.0).reshape(4, 3))])
    message = conversions.map_msg(VectorMap("Town", lines, areas), STAMP_NS, "map")
    assert_same(conversions.map_from_msg(message, "map"), VectorMap("Town", lines, areas))


def test_an_empty_map_is_a_map():
    empty = VectorMap("empty", Shapes.from_list([]), Shapes.from_list([]))
    message = conversions.map_msg(empty, STAMP_NS, "map")
    assert len(conversions.map_from_msg(message, "map").polylines) == 0


def test_frame_round_trip():
    images = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    frame = CameraFrame(
        stamp_ns=STAMP_NS,
        names=("front", "left"),
        valid=np.array([True, False]),
        age_s=np.array([0.01, np.nan], np.float32),
        images=images,
        intrinsics=np.arange(8.0).reshape(2, 4),
        ego_from_camera=poses(2),
    )
    message = conversions.frame_msg(frame, "base_link")
    assert_same(conversions.frame_from_msg(message, "base_link"), frame)


def test_features_round_trip():
    features = AlignedFeatures(
        stamp_ns=STAMP_NS,
        sources=np.array([1, 0], np.uint8),
        maps=np.random.default_rng(0).random((2, 3, 4, 5), np.float32),
        intrinsics=np.arange(8.0).reshape(2, 4),
        ego_from_camera=poses(2),
        alignment_distance=np.array([0.5, np.nan], np.float32),
    )
    message = conversions.features_msg(features, ("front", "left"), "hash", "base_link")
    assert_same(conversions.features_from_msg(message, "base_link"), features)


def test_candidates_round_trip():
    ego = EgoState(STAMP_NS, 1e5, 2e5, 3.0, 0.4, 5.0, 0.0, 0.0)
    candidates = Candidates(
        stamp_ns=STAMP_NS,
        ego=ego,
        dt_s=0.5,
        poses_m=np.arange(60.0).reshape(2, 10, 3),
        scores=np.array([1.0, 2.0], np.float32),
        uncertainty=0.25,
        command=Command.LEFT,
        command_source="route",
        inference_ms=1.5,
        camera_sources=np.array([1, 0, 2], np.uint8),
        alignment_distance=0.25,
    )
    assert_same(candidates_from_msg(candidates_msg(candidates, "map"), "map"), candidates)


def odometry() -> Odometry:
    message = Odometry(child_frame_id="base_link")
    message.header.frame_id = "map"
    message.pose.pose.orientation.z = float(np.sin(1.0))
    message.pose.pose.orientation.w = float(np.cos(1.0))
    message.twist.twist.linear.x = 3.0
    return message


def test_the_likelier_a_candidate_the_more_opaque_its_line():
    ego = EgoState(5, 10.0, -3.0, 1.5, 0.0, 4.0, 0.0, 0.0)
    poses = np.arange(3 * 4 * 3, dtype=float).reshape(3, 4, 3)
    scores = np.array([-1.0, 0.5, -9.0], np.float32)
    sources, nan = np.ones(3, np.uint8), float("nan")
    drawn = Candidates(
        5, ego, 0.5, poses, scores, 0.1, Command.LEFT, "route", 3.0, sources, nan
    )  # fmt: skip
    everybody, best = candidate_markers(drawn, "map").markers
    lines = np.array([(p.x, p.y, p.z) for p in everybody.points]).reshape(3, 4, 2, 3)
    assert (lines[:, 0, 0] == [10.0, -3.0, 1.5]).all()  # All begin where the ego is ...
    np.testing.assert_array_equal(lines[:, :, 1, :2], poses[:, :, :2])  # ... and pass their poses.
    np.testing.assert_array_equal(lines[:, 1:, 0], lines[:, :-1, 1])
    opacities = np.array([color.a for color in everybody.colors]).reshape(3, 8)
    assert (np.ptp(opacities, axis=1) == 0.0).all()
    expected = [np.exp(-1.5), 1.0, LEAST_OPACITY]
    np.testing.assert_allclose(opacities[:, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal([(p.x, p.y) for p in best.points][1:], poses[1, :, :2])


def test_odometry_becomes_an_ego_state():
    state = conversions.ego_state_from_msg(odometry(), "map", "base_link")
    assert state.yaw_rad == pytest.approx(2.0)
    assert state.vx_mps == 3.0


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("header.frame_id", "odom", "frame_id is 'odom', expected 'map'"),
        ("child_frame_id", "imu", "child_frame_id is 'imu', expected 'base_link'"),
        ("pose.pose.position.x", float("nan"), "pose or twist is not finite"),
        ("twist.twist.linear.x", float("inf"), "pose or twist is not finite"),
        ("pose.pose.orientation", Quaternion(w=0.0), r"orientation has the length 0\.000"),
    ],
)
def test_unusable_odometry_is_refused(field, value, expected):
    message = odometry()
    *parents, name = field.split(".")
    target = message
    for parent in parents:
        target = getattr(target, parent)
    setattr(target, name, value)
    with pytest.raises(conversions.MessageError, match=expected):
        conversions.ego_state_from_msg(message, "map", "base_link")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"polyline_kinds": [99, 14]}, r"polyline_kinds\[0\]: is 99"),
        ({"polyline_offsets": [0, 3]}, "polyline_offsets: 2 values for 2 kinds"),
        ({"polyline_offsets": [0, 3, 9]}, "polyline_offsets"),
        ({"polyline_points": [float("nan")] * 15}, r"polyline_points\[0\]: is nan"),
    ],
)
def test_an_unusable_map_is_refused(changes, expected):
    lines = Shapes.from_list([(10, np.ones((3, 3))), (14, np.zeros((2, 3)))])
    whole = VectorMap("Town", lines, Shapes.from_list([]))
    message: MapPrimitives = conversions.map_msg(whole, 0, "map")
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(conversions.MessageError, match=expected):
        conversions.map_from_msg(message, "map")


def test_path_poses_are_stamped_one_step_apart_after_the_header():
    message = conversions.path_msg(STAMP_NS, "map", np.array([[1, 2, 0.5], [3, 4, 0.6]]), 7.0, 0.1)
    assert conversions.stamp_ns(message.header.stamp) == STAMP_NS
    stamps = [conversions.stamp_ns(pose.header.stamp) for pose in message.poses]
    assert stamps == [STAMP_NS + 100_000_000, STAMP_NS + 200_000_000]
    np.testing.assert_allclose(conversions.path_points(message, "map"), [[1, 2, 7], [3, 4, 7]])
    orientation = message.poses[0].pose.orientation
    assert 2 * np.arctan2(orientation.z, orientation.w) == pytest.approx(0.5)


@pytest.mark.parametrize("frame", ["map", "mapx", "a/longer/frame"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_last_pose_of_a_serialized_path_is_its_goal(frame, count):
    def path(sec: int, poses: list[PoseStamped]) -> bytes:
        message = PathMsg(poses=poses)
        message.header.frame_id, message.header.stamp.sec = frame, sec
        return serialize_message(message)

    poses = [PoseStamped() for _ in range(count)]
    for row, pose in enumerate(poses):
        pose.header.frame_id = row * "x"
        pose.pose.position.x, pose.pose.orientation.w = 7.0 * row, 1.0
    goal = last_pose(path(5, poses), frame)
    expected = [7.0 * (count - 1), 0.0, 0.0, 0.0, 0.0, 0.0, 1.0] if count else []
    assert np.frombuffer(goal).tolist() == expected
    assert last_pose(path(9, poses[1:]), frame) == (goal if count > 1 else b"")
    with pytest.raises(conversions.MessageError, match="frame_id is"):
        last_pose(path(5, poses), "odom")
    with pytest.raises(conversions.MessageError, match="too short: 6 bytes"):
        last_pose(path(5, poses)[:6], frame)
    for value in (float("nan"), 1e12) if poses else ():
        poses[-1].pose.position.y = value
        with pytest.raises(conversions.MessageError, match="its last pose is no place"):
            last_pose(path(5, poses), frame)


def test_an_empty_route_is_no_route():
    message = PathMsg()
    message.header.frame_id = "map"
    assert conversions.path_points(message, "map") is None
