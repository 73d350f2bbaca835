from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from rap_perception.ros.conversions import add_transforms
from rap_perception.transform_tree import TransformError, TransformTree
from rap_raster.camera import optical_rotation
from rap_raster.frames import transform_points

OPTICAL = np.array([-0.5, 0.5, -0.5, 0.5])  # REP-103: optical axes in a body frame
QUARTER_LEFT = np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])
LEVEL = np.array([0.0, 0.0, 0.0, 1.0])


def vehicle() -> TransformTree:
    """base_footprint > base_link > roof > left_camera > left_optical, and a lidar on the roof."""
    tree = TransformTree()
    tree.add("base_footprint", "base_link", np.array([0.0, 0.0, 0.3]), LEVEL)
    tree.add("base_link", "roof", np.array([1.0, 0.0, 1.5]), LEVEL)
    tree.add("roof", "left_camera", np.array([0.0, 0.5, 0.0]), QUARTER_LEFT)
    tree.add("left_camera", "left_optical", np.zeros(3), OPTICAL)
    tree.add("roof", "lidar", np.array([0.0, 0.0, 0.2]), QUARTER_LEFT)
    return tree


def test_a_chain_of_transforms_gives_the_camera_in_the_base_frame():
    pose = vehicle().look_up("base_link", "left_optical")
    np.testing.assert_allclose(pose[:3, 3], [1.0, 0.5, 1.5])
    np.testing.assert_allclose(pose[:3, :3], optical_rotation(np.pi / 2), atol=1e-12)


def test_frames_of_different_branches_meet_at_their_common_ancestor():
    """One metre ahead of the left camera is two metres to the left of the base's axis."""
    tree = vehicle()
    lidar_from_optical = tree.look_up("lidar", "left_optical")
    point = transform_points(lidar_from_optical, np.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(point, [1.5, 0.0, -0.2], atol=1e-12)
    up = tree.look_up("base_link", "base_footprint")
    np.testing.assert_allclose(up[:3, 3], [0.0, 0.0, -0.3])


def test_a_frame_may_be_moved():
    tree = vehicle()
    tree.add("base_link", "roof", np.array([2.0, 0.0, 1.5]), LEVEL)
    np.testing.assert_allclose(tree.look_up("base_link", "left_optical")[:3, 3], [2.0, 0.5, 1.5])


def test_frames_that_are_not_connected_are_refused_with_both_names():
    expected = "no chain of static transforms from 'map' to 'left_optical'; that one hangs below"
    with pytest.raises(TransformError, match=expected):
        vehicle().look_up("map", "left_optical")


def test_a_loop_of_frames_ends():
    tree = TransformTree()
    tree.add("a", "b", np.zeros(3), LEVEL)
    tree.add("b", "a", np.zeros(3), LEVEL)
    with pytest.raises(TransformError):
        tree.look_up("base_link", "a")


@pytest.mark.parametrize("quaternion", [np.zeros(4), np.array([np.nan, 0, 0, 1.0]), 2 * LEVEL])
def test_a_transform_that_is_no_rotation_is_refused(quaternion):
    with pytest.raises(TransformError, match="transform from 'a' to 'b' is"):
        TransformTree().add("a", "b", np.zeros(3), quaternion)


def test_one_unfit_transform_of_a_message_costs_no_other():
    """Messages on /tf_static come once."""

    def stamped(parent: str, child: str, rotation: np.ndarray) -> SimpleNamespace:
        q = SimpleNamespace(**dict(zip("xyzw", rotation.tolist(), strict=True)))
        shift = SimpleNamespace(x=1.0, y=0.0, z=0.0)
        return SimpleNamespace(
            header=SimpleNamespace(frame_id=parent),
            child_frame_id=child,
            transform=SimpleNamespace(translation=shift, rotation=q),
        )

    tree, hitch = TransformTree(), stamped("base_link", "trailer_hitch", np.zeros(4))
    message = SimpleNamespace(transforms=[hitch, stamped("base_link", "camera", LEVEL)])
    with pytest.raises(TransformError, match="trailer_hitch"):
        add_transforms(tree, message)
    assert tree.look_up("base_link", "camera")[0, 3] == 1.0
