from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from rap_raster.camera import CameraModel, optical_rotation, project_points
from rap_raster.frames import (
    Pose,
    angles_of,
    inverse,
    to_local,
    to_parent,
    transform_from_yaw,
    transform_points,
    wrap_angle,
)
from rap_raster.vehicle import PACIFICA, VehicleDimensions

coordinate = st.floats(-1e6, 1e6)
angle = st.floats(-10.0, 10.0)


def front_camera(yaw_rad: float = 0.0) -> CameraModel:
    pose = np.eye(4)
    pose[:3, :3] = optical_rotation(yaw_rad)
    pose[:3, 3] = (1.5, 0.0, 1.6)
    return CameraModel("front", 640, 480, 500.0, 510.0, 319.5, 239.5, pose)


@given(angle)
def test_wrapped_angle_is_the_same_direction(value):
    wrapped = float(wrap_angle(value))
    assert -np.pi <= wrapped < np.pi
    assert np.cos(wrapped) == pytest.approx(np.cos(value), abs=1e-9)
    assert np.sin(wrapped) == pytest.approx(np.sin(value), abs=1e-9)


planar_pose = st.tuples(coordinate, coordinate, angle)


@given(planar_pose, planar_pose)
def test_local_and_parent_frames_are_inverse(reference, pose):
    back = to_parent(reference, to_local(reference, pose))
    np.testing.assert_allclose(back[:2], pose[:2], atol=1e-6)
    assert abs(float(wrap_angle(back[2] - pose[2]))) < 1e-9


def test_a_point_ahead_of_a_pose_facing_north_has_positive_local_x():
    local = to_local([5.0, 5.0, np.pi / 2], [5.0, 8.0, np.pi / 2])
    np.testing.assert_allclose(local, [3, 0, 0], atol=1e-12)


def test_rigid_inverse_undoes_the_transform():
    transform = transform_from_yaw(0.7, (3.0, -2.0, 1.0))
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 0.0, 2.0]])
    np.testing.assert_allclose(
        transform_points(inverse(transform), transform_points(transform, points)),
        points,
        atol=1e-12,
    )


def test_optical_axis_points_where_the_yaw_says():
    axis = optical_rotation(np.pi / 2) @ [0.0, 0.0, 1.0]
    np.testing.assert_allclose(axis, [0.0, 1.0, 0.0], atol=1e-12)


def test_positive_pitch_looks_down():
    axis = optical_rotation(0.0, pitch_rad=0.1) @ [0.0, 0.0, 1.0]
    assert axis[2] == pytest.approx(-np.sin(0.1))


def test_point_on_the_optical_axis_lands_on_the_principal_point():
    pixels, visible = project_points(front_camera(), np.array([[11.5, 0.0, 1.6]]))
    np.testing.assert_allclose(pixels[0], [319.5, 239.5])
    assert visible[0]


def test_point_to_the_left_lands_left_of_the_centre():
    pixels, _ = project_points(front_camera(), np.array([[11.5, 1.0, 1.6]]))
    np.testing.assert_allclose(pixels[0], [319.5 - 500.0 / 10.0, 239.5])


def test_points_behind_the_camera_are_not_visible():
    assert not project_points(front_camera(), np.array([[-5.0, 0.0, 1.6]]))[1][0]


def test_projection_matrix_and_project_points_agree():
    camera = front_camera(0.3)
    points = np.random.default_rng(0).uniform([5, -3, 0], [40, 3, 3], (50, 3))
    homogeneous = camera.image_from_ego() @ np.concatenate([points, np.ones((50, 1))], axis=1).T
    np.testing.assert_allclose(
        (homogeneous[:2] / homogeneous[2]).T, project_points(camera, points)[0], atol=1e-9
    )


def test_resizing_moves_projected_points_like_the_pixels_of_the_image():
    # Pixel u covers [u - 0.5, u + 0.5], so halving the size maps edges to edges.
    camera, points = front_camera(), np.array([[20.0, 3.0, 0.5], [8.0, -2.0, 2.0]])
    full, _ = project_points(camera, points)
    half, _ = project_points(camera.resized(320, 240), points)
    np.testing.assert_allclose(half, (full + 0.5) / 2 - 0.5)


@example(np.array([1.0, 0.0, 1.0, 0.0]))  # straight down
@example(np.array([0.0, 0.7, 0.0, -0.7]))
@given(hnp.arrays(float, 4, elements=st.floats(-1.0, 1.0)))
def test_a_pose_of_the_angles_of_a_quaternion_turns_as_the_quaternion_does(quaternion):
    length = np.linalg.norm(quaternion)
    assume(length > 0.1)
    yaw, pitch, roll = angles_of(*quaternion / length)
    turn = Pose(1.0, 2.0, 3.0, yaw, pitch, roll).map_from_ego()
    np.testing.assert_allclose(turn[:3, :3], Rotation.from_quat(quaternion).as_matrix(), atol=1e-6)
    np.testing.assert_array_equal(turn[:3, 3], [1.0, 2.0, 3.0])


def test_vehicle_box_and_pose_are_inverse():
    car = VehicleDimensions.from_size(4.6, 1.9, 1.5)
    pose = Pose(10.0, -4.0, 2.0, 2.5)
    back = car.pose_from_box(car.box_center(pose), pose.yaw_rad)
    np.testing.assert_allclose(
        [back.x_m, back.y_m, back.z_m], [pose.x_m, pose.y_m, pose.z_m], atol=1e-9
    )


def test_pacifica_box_ends_where_nuplan_says():
    # nuplan-devkit: front 4.049 m ahead of the rear axle, rear 1.127 m behind.
    center = PACIFICA.box_center(Pose(0.0, 0.0, 0.0, 0.0))
    assert center[0] + PACIFICA.length_m / 2 == pytest.approx(4.049, abs=1e-3)
    assert center[0] - PACIFICA.length_m / 2 == pytest.approx(-1.127, abs=1e-3)
