"""Every conversion of a message, fed with messages that are wrong in one or two places.

It answers with numbers to calculate with, or refuses in one line with the error that its node
catches. `make fuzz` runs the same with many more examples.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fuzzing import StandIn, assert_one_line, break_message, fuzzed
from geometry_msgs.msg import TransformStamped
from hypothesis import given
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image

from rap_perception.camera_info import CalibrationError, camera_model_from_message
from rap_perception.images import ImageError
from rap_perception.object_messages import read_rap
from rap_perception.objects import checked_objects
from rap_perception.ros.conversions import add_transforms, pixels
from rap_perception.transform_tree import TransformError, TransformTree
from rap_planner.candidates import Candidates
from rap_planner.guard import Guard, GuardInputs, GuardSettings
from rap_planner.ros.conversions import candidates_from_msg, candidates_msg, usable_objects
from rap_planner.route import Command, Guidance
from rap_raster.ego_history import EgoHistory, EgoState
from rap_raster.features import AlignedFeatures
from rap_raster.frames import Pose
from rap_raster.maps.vector_map import VectorMap
from rap_raster.observations import CameraFrame, TrackedObjects
from rap_raster.ros import conversions
from rap_raster.ros.conversions import MessageError
from rap_raster.scene import Boxes, Lights, LineKind, PolygonKind, Shapes

pytestmark = pytest.mark.fuzz

STAMP_NS = 1_700_000_000_000_000_000
POSES = np.tile(np.eye(4), (2, 1, 1))
SQUARE = [[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [9.0, 9.0, 0.0]]


def candidates() -> Any:
    ego = EgoState(STAMP_NS, 1.0, 2.0, 0.0, 0.1, 5.0, 0.0, 0.0)
    poses = np.zeros((2, 10, 3))
    poses[:, :, 0] = 1.0 + 2.5 * np.arange(1, 11)
    scores, sources = np.array([0.0, -1.0], np.float32), np.ones(3, np.uint8)
    return candidates_msg(
        Candidates(
            STAMP_NS, ego, 0.5, poses, scores, 0.1, Command.STRAIGHT, "route", 3.0, sources, 0.5
        ),
        "map",
    )


def objects() -> Any:
    rows = [[i, 1, 3.0 * i, 2.0, 0.8, 4.0, 1.8, 1.6, 0.0, 1.0, 0.0] for i in (1, 2)]
    lights = Lights(np.array([30], np.uint8), np.ones((1, 3)), np.ones((1, 3)), np.zeros(1))
    ones = np.ones(2, np.float32)
    seen = TrackedObjects(STAMP_NS, Boxes.from_rows(rows), lights, 0 * ones, ones)
    return conversions.objects_msg(seen, "map")


def map_primitives() -> Any:
    lines = Shapes.from_list([(LineKind.LANE_BOUNDARY, SQUARE), (LineKind.ROUTE, SQUARE)])
    areas = Shapes.from_list([(PolygonKind.DRIVABLE, SQUARE)])
    return conversions.map_msg(VectorMap("m", lines, areas), STAMP_NS, "map")


def frame() -> Any:
    images = np.zeros((2, 4, 6, 3), np.uint8)
    ones = np.ones(2, np.float32)
    seen = CameraFrame(
        STAMP_NS, ("a", "b"), ones.astype(bool), ones, images, np.ones((2, 4)), POSES
    )
    return conversions.frame_msg(seen, "base_link")


def features() -> Any:
    maps = np.zeros((2, 3, 4, 8), np.float32)
    ones = np.ones(2, np.float32)
    made = AlignedFeatures(STAMP_NS, ones.astype(np.uint8), maps, np.ones((2, 4)), POSES, ones)
    return conversions.features_msg(made, ("a", "b"), "0" * 64, "base_link")


def odometry() -> Odometry:
    message = Odometry(header=conversions.header(STAMP_NS, "map"), child_frame_id="base_link")
    message.twist.twist.linear.x = 5.0
    return message


def calibration() -> CameraInfo:
    message = CameraInfo(height=64, width=128, distortion_model="plumb_bob", d=[0.1] + [0.0] * 4)
    message.k = [80.0, 0.0, 63.5, 0.0, 80.0, 31.5, 0.0, 0.0, 1.0]
    return message


def transforms() -> StandIn:
    """A tf2_msgs/TFMessage: a camera on a bar on the vehicle."""
    message = StandIn(transforms=[])
    for parent, child in (("base_link", "bar"), ("bar", "cam")):
        stamped = TransformStamped(header=conversions.header(0, parent), child_frame_id=child)
        stamped.transform.translation.x = 1.5
        message.transforms.append(stamped)
    return message


def image() -> Image:
    return conversions.image_msg(STAMP_NS, "cam", np.zeros((4, 6, 3), np.uint8))


# Each runs a decoder and what its node does with the result, and returns what must be finite.


def use_candidates(message: Any) -> Any:
    found = candidates_from_msg(message, "map")
    now = EgoState(STAMP_NS, 1.0, 2.0, 0.0, 0.1, 5.0, 0.0, 0.0)
    return Guard(GuardSettings()).step(STAMP_NS, GuardInputs(found, now, now)).trajectory.poses_m


def use_objects_in_guard(message: Any) -> Any:
    found, _ = usable_objects(message, "map")
    now = EgoState(STAMP_NS, 1.0, 2.0, 0.0, 0.1, 5.0, 0.0, 0.0)
    seen = GuardInputs(candidates_from_msg(candidates(), "map"), now, now, found)
    decision = Guard(GuardSettings()).step(STAMP_NS, seen)
    assert decision.error == ""
    return decision.trajectory.poses_m


def use_objects_in_perception(message: Any) -> Any:
    given = read_rap(message)
    found, _ = checked_objects(given.stamp_ns or 0, given.columns)
    return np.column_stack([found.boxes.centers_m, found.boxes.sizes_m])


def use_map(message: Any) -> Any:
    found = conversions.map_from_msg(message, "map")
    return np.concatenate([found.polylines.points_m, found.polygons.points_m])


def use_route(message: Any) -> Any:
    route_m = conversions.path_points(message, "map")
    if route_m is None:
        return 0.0
    return float(Guidance.along(route_m, Pose(0.0, 0.0, 0.0, 0.0)).command)


def use_odometry(message: Any) -> Any:
    history = EgoHistory()
    history.add(conversions.ego_state_from_msg(message, "map", "base_link"))
    latest = history.latest
    assert latest is not None
    return [*latest.planar, latest.z_m, latest.vx_mps, latest.vy_mps, latest.yaw_rate_radps]


def use_frame(message: Any) -> Any:
    found = conversions.frame_from_msg(message, "base_link")
    assert found.images.shape[0] == len(found.names) == len(found.valid)
    return 0.0


def use_features(message: Any) -> Any:
    found = conversions.features_from_msg(message, "base_link")
    assert len(found.maps) == len(found.sources) == len(found.ego_from_camera)
    return 0.0


def use_calibration(message: Any) -> Any:
    model = camera_model_from_message("cam", message, np.eye(4))
    return [model.fx, model.fy, model.cx, model.cy]


def use_transforms(message: Any) -> Any:
    tree = TransformTree()
    with np.errstate(over="ignore"):  # a length that overflows is not 1, and refused
        add_transforms(tree, message)
    return tree.look_up("base_link", "cam")


def use_image(message: Any) -> Any:
    return pixels(message, 1)


@dataclass(frozen=True)
class Target:
    """A decoder, a message it takes, and the error it may raise."""

    make: Callable[[], Any]
    use: Callable[[Any], Any]
    refuses: type[Exception]


MESSAGES = {
    "candidates": Target(candidates, use_candidates, MessageError),
    "objects, guard": Target(objects, use_objects_in_guard, MessageError),
    "objects, perception": Target(objects, use_objects_in_perception, ValueError),
    "map": Target(map_primitives, use_map, MessageError),
    "route": Target(
        lambda: conversions.route_msg(STAMP_NS, "map", np.array(SQUARE)), use_route, MessageError
    ),
    "odometry": Target(odometry, use_odometry, MessageError),
    "frame": Target(frame, use_frame, MessageError),
    "features": Target(features, use_features, MessageError),
    "camera_info": Target(calibration, use_calibration, CalibrationError),
    "image": Target(image, use_image, ImageError),
    "transforms": Target(transforms, use_transforms, TransformError),
}


@pytest.mark.parametrize("name", MESSAGES)
@fuzzed
@given(data=st.data())
def test_a_message_with_a_wrong_field_is_used_or_refused_in_one_line(name, data):
    target = MESSAGES[name]
    message = deepcopy(target.make())
    for _ in range(data.draw(st.integers(1, 2))):
        break_message(data.draw, message)
    try:
        result = target.use(message)
    except target.refuses as error:
        assert_one_line(error)
    else:
        assert np.isfinite(result).all()


@pytest.mark.parametrize("name", MESSAGES)
def test_the_unbroken_message_is_used(name):
    target = MESSAGES[name]
    assert np.isfinite(target.use(target.make())).all()
