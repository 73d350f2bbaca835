from __future__ import annotations

import numpy as np
import pytest

from rap_raster.camera import CameraModel, optical_rotation
from rap_raster.view_coverage import covered_share


def camera(yaw_deg: float, fov_deg: float, x_m: float = 1.5, pitch_deg: float = 0.0) -> CameraModel:
    focal = 320.0 / np.tan(np.deg2rad(fov_deg / 2))
    pose = np.eye(4)
    pose[:3, :3] = optical_rotation(np.deg2rad(yaw_deg), np.deg2rad(pitch_deg))
    pose[:3, 3] = [x_m, 0.0, 1.6]
    return CameraModel("cam", 640, 320, focal, focal, 319.5, 159.5, pose)


def test_a_wider_camera_in_the_same_direction_covers_all():
    assert covered_share(camera(0.0, 60.0), [camera(0.0, 90.0)]) == 1.0


def test_nobody_covers_nothing():
    assert covered_share(camera(0.0, 60.0), []) == 0.0
    assert covered_share(camera(0.0, 60.0), [camera(180.0, 90.0)]) == 0.0


@pytest.mark.parametrize("turn_deg", [15.0, 30.0, 45.0])
def test_the_share_is_that_of_the_image_where_two_cameras_overlap(turn_deg):
    """Turned cameras of 60 degrees at one place: the overlap ends where the other's edge is."""
    edge = np.tan(np.deg2rad(30.0))
    expected = (edge - np.tan(np.deg2rad(turn_deg - 30.0))) / (2 * edge)
    share = covered_share(camera(0.0, 60.0), [camera(turn_deg, 60.0)])
    assert share == pytest.approx(expected, abs=0.02)


def test_two_neighbours_cover_what_each_half_covers():
    sides = [camera(25.0, 60.0), camera(-25.0, 60.0)]
    assert covered_share(camera(0.0, 50.0), sides) == pytest.approx(1.0, abs=0.02)


def test_what_is_too_near_for_the_other_camera_counts_as_not_covered():
    """A camera twenty metres further ahead does not see what is ten metres away."""
    ahead = camera(0.0, 90.0, x_m=21.5)
    assert covered_share(camera(0.0, 40.0), [ahead]) == pytest.approx(0.5)


def test_a_camera_that_looks_straight_down_has_a_finite_share():
    assert covered_share(camera(0.0, 60.0, pitch_deg=90.0), [camera(0.0, 60.0)]) <= 1.0
