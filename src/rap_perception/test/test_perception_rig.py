from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rap_perception.rig import (
    RigError,
    assign_slots,
    ego_from_camera_values,
    rotation_from_quaternion,
)
from rap_raster.camera import CameraModel, optical_rotation


def pose(yaw_deg: float) -> np.ndarray:
    transform = np.eye(4)
    transform[:3, :3] = optical_rotation(np.deg2rad(yaw_deg))
    return transform


def slot(name: str, yaw_deg: float) -> CameraModel:
    return CameraModel(name, 256, 128, 150.0, 150.0, 127.5, 63.5, pose(yaw_deg))


SLOTS = [slot("front", 0.0), slot("front_left", 55.0), slot("front_right", -55.0)]
DIRECTIONS_DEG = {"CAM_1": 2, "CAM_5": 53, "CAM_6": -48, "CAM_7": 110, "CAM_9": 180}
RIG = {name: pose(yaw_deg) for name, yaw_deg in DIRECTIONS_DEG.items()}


def test_each_slot_takes_the_camera_that_looks_its_way():
    assert assign_slots(SLOTS, RIG, {}) == {
        "front": "CAM_1",
        "front_left": "CAM_5",
        "front_right": "CAM_6",
    }


def test_a_slot_that_no_camera_covers_stays_empty():
    assert assign_slots(SLOTS, {"only": pose(0), "rear": pose(180)}, {}) == {"front": "only"}


def test_a_camera_feeds_one_slot_only():
    assert assign_slots(SLOTS, {"between": pose(27.0)}, {}) == {"front": "between"}


def test_configured_slots_win_over_directions():
    wanted = {"CAM_9": "front"}
    assert assign_slots(SLOTS, RIG, wanted) == {"front": "CAM_9"}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"CAM_1": "rear"}, "cameras.slots: 'rear' is not a slot of the bundle"),
        ({"CAM_1": "front", "CAM_5": "front"}, "cameras.slots: 'front' is given to 'CAM_1' too"),
    ],
)
def test_impossible_slots_are_refused(wanted, expected):
    with pytest.raises(RigError, match=expected):
        assign_slots(SLOTS, RIG, wanted)


def test_the_optical_quaternion_of_ros_looks_ahead():
    """(-0.5, 0.5, -0.5, 0.5) is the well-known base_link to optical frame rotation (REP-103)."""
    transform = ego_from_camera_values("front", [1.0, 2.0, 3.0, -0.5, 0.5, -0.5, 0.5])
    np.testing.assert_allclose(transform[:3, :3], optical_rotation(0.0), atol=1e-12)
    np.testing.assert_allclose(transform[:3, 3], [1.0, 2.0, 3.0])


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_quaternions_give_rotations(values):
    quaternion = np.array(values)
    length = np.linalg.norm(quaternion)
    if length < 1e-3:
        return
    rotation = rotation_from_quaternion(quaternion / length)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0] * 6, "expected 7 finite numbers"),
        ([0.0, 0.0, float("nan"), 0.0, 0.0, 0.0, 1.0], "expected 7 finite numbers"),
        ([0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.0], "quaternion has length 0.866, expected 1"),
    ],
)
def test_bad_extrinsics_are_refused_with_the_parameter_name(values, expected):
    with pytest.raises(RigError, match=f"cameras.extrinsics.front: {expected}"):
        ego_from_camera_values("front", values)
