"""The DGP scene against its own per-camera annotations, and what malformed scenes say."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import numpy as np
import pytest
from small_recordings import car_box, write_dgp_scene

from rap_bringup.drives.dgp import read_dgp
from rap_bringup.drives.recorded_drive import DriveError
from rap_raster.ego_history import EgoHistory
from rap_raster.frames import inverse, transform_points

PIXEL_TOLERANCE = 25.0
"""Pose and annotation stamps differ by 9 ms, in which a car 20 m away moves 0.25 m."""


@pytest.fixture(scope="module")
def scene(real_data):
    return read_dgp(real_data / "dgp")


@pytest.mark.data
def test_stamps_are_ten_hertz_in_2019_and_fit_ros_time(scene):
    first = datetime.fromtimestamp(scene.start_ns * 1e-9, tz=timezone.utc)
    assert first.year == 2019
    for camera in scene.cameras:
        stamps = np.array([image.stamp_ns for image in camera.images])
        np.testing.assert_allclose(np.diff(stamps) * 1e-9, 0.1, atol=1e-4)
    assert scene.ego[-1].vx_mps == pytest.approx(12.65, abs=0.1)
    assert abs(scene.ego[-1].vy_mps) < 0.05


@pytest.mark.data
def test_six_cameras_look_around_from_above_the_road(scene):
    axes = np.array([camera.model.ego_from_camera[:3, 2] for camera in scene.cameras])
    yaws = np.sort(np.degrees(np.arctan2(axes[:, 1], axes[:, 0])))
    assert np.diff(yaws).max() < 75
    heights = [camera.model.ego_from_camera[2, 3] for camera in scene.cameras]
    assert np.allclose(heights, 1.55, atol=0.05)


@pytest.mark.data
def test_boxes_project_where_each_camera_annotates_them(scene, real_data):
    """Our chain is vehicle frame -> map -> ego -> camera; the annotation is in camera frames."""
    history = EgoHistory()
    for state in scene.ego:
        history.add(state)
    checked = 0
    for camera in scene.cameras:
        for image, objects in zip(camera.images, scene.objects, strict=True):
            annotated = _annotated(real_data, camera.model.name, image.stamp_ns)
            map_from_ego = history.at(image.stamp_ns).pose.map_from_ego()
            camera_from_map = inverse(map_from_ego @ camera.model.ego_from_camera)
            centers = transform_points(camera_from_map, objects.boxes.centers_m)
            for center, size in annotated:
                same = np.abs(objects.boxes.sizes_m - size).max(axis=1) < 1e-3
                ours = centers[same & (centers[:, 2] > 1)]
                if center[2] > 1 and len(ours):
                    checked += 1
                    pixels = ours[:, :2] / ours[:, 2:] * camera.model.fx
                    expected = center[:2] / center[2] * camera.model.fx
                    error = np.linalg.norm(pixels - expected, axis=1).min()
                    assert error < PIXEL_TOLERANCE, (camera.model.name, center, error)
    assert checked > 30


@pytest.mark.data
def test_a_vehicle_keeps_its_id_and_its_velocity_is_its_motion(scene):
    first, second = scene.objects[0].boxes, scene.objects[1].boxes
    assert first.ids.tolist() == second.ids.tolist()
    dt_s = (scene.objects[1].stamp_ns - scene.objects[0].stamp_ns) * 1e-9
    moved = (second.centers_m - first.centers_m)[:, :2] / dt_s
    np.testing.assert_allclose(second.velocities_mps, moved)
    assert np.isnan(first.velocities_mps).all()
    assert np.linalg.norm(moved, axis=1).max() > 10  # traffic on this road drives, not crawls


def _annotated(real_data, sensor, stamp_ns):
    """Returns centre and size of every box that was annotated in a camera's own frame."""
    path = real_data / "dgp" / "scene_02" / "bounding_box_3d" / sensor / f"{stamp_ns // 100}.json"
    boxes = [a["box"] for a in json.loads(path.read_text())["annotations"]]
    return [
        (
            np.array([box["pose"]["translation"][axis] for axis in "xyz"]),
            np.array([box["length"], box["width"], box["height"]]),
        )
        for box in boxes
    ]


def test_a_tiny_scene_is_read_with_stamps_as_they_are(tmp_path):
    write_dgp_scene(tmp_path)
    drive = read_dgp(tmp_path)
    assert drive.cameras[0].images[0].stamp_ns == 1_577_836_800 * 10**9
    assert drive.objects[0].stamp_ns == 1_577_836_800 * 10**9 + 10_000_000
    assert len(drive.objects[0].boxes) == 0
    assert drive.route_m is None


@pytest.mark.parametrize(
    ("drop", "text"),
    [
        (("scene_1.json", "data"), "scene_1.json: field 'data' is missing"),
        (("scene_1.json", "data", 0, "datum", "image", "pose"), "field 'pose' is missing"),
        (("scene_1.json", "samples"), "field 'samples' is missing"),
        (("calibration/key.json", "extrinsics"), "key.json: field 'extrinsics' is missing"),
        (("calibration/key.json", "intrinsics", 0, "fx"), "field 'fx' is missing"),
        (("ontology/names.json", "items"), "names.json: field 'items' is missing"),
        (("bounding_box_3d/boxes.json", "annotations"), "field 'annotations' is missing"),
        (
            ("bounding_box_3d/boxes.json", "annotations", 0, "instance_id"),
            "boxes.json: field 'instance_id' is missing",
        ),
    ],
)
def test_a_missing_field_is_named_with_its_file(tmp_path, drop, text):
    write_dgp_scene(tmp_path, drop=drop, boxes=[car_box()])
    with pytest.raises(DriveError, match=text):
        read_dgp(tmp_path)


@pytest.mark.parametrize(
    "name", ["calibration/key.json", "a.jpg", "bounding_box_3d/boxes.json", "ontology/names.json"]
)
def test_a_missing_file_is_named(tmp_path, name):
    write_dgp_scene(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DriveError, match=rf"{name}: cannot be read"):
        read_dgp(tmp_path)


def test_a_folder_without_a_scene_is_refused(tmp_path):
    with pytest.raises(DriveError, match=r"no scene_<hash>\.json"):
        read_dgp(tmp_path)
    with pytest.raises(DriveError, match="not a DGP folder"):
        read_dgp(tmp_path / "nothing")


def test_a_pose_that_is_no_rotation_is_refused(tmp_path):
    write_dgp_scene(tmp_path, boxes=[car_box(qw=0.0)])
    with pytest.raises(DriveError, match=r"boxes\.json: malformed: pose\.rotation has length 0"):
        read_dgp(tmp_path)


@pytest.mark.parametrize(
    ("lens", "model", "coeffs"),
    [
        ({"k1": 0.0, "p2": 0.0}, None, ()),
        ({"k1": 0.1, "k2": 0.2, "p1": 0.3, "p2": 0.4, "k3": 0.5}, "plumb_bob", (1, 2, 3, 4, 5)),
        ({"k1": 0.1, "k4": 0.6, "k6": 0.8}, "rational_polynomial", (1, 0, 0, 0, 0, 6, 0, 8)),
        ({"fisheye": 1, "k1": 0.1, "k4": 0.4}, "equidistant", (1, 0, 0, 4)),
    ],
)
def test_the_lens_of_the_calibration_is_read(tmp_path, lens, model, coeffs):
    write_dgp_scene(tmp_path, lens=lens)
    distortion = read_dgp(tmp_path).cameras[0].model.distortion
    assert (distortion and distortion.model) == model
    if distortion is not None:
        np.testing.assert_allclose(distortion.coeffs, 0.1 * np.array(coeffs))


@pytest.mark.parametrize(
    ("lens", "text"),
    [
        ({"xi": 0.5}, r"intrinsics: no lens model for \['xi'\]"),
        ({"fisheye": 3}, "intrinsics: no lens model for fisheye 3"),
        ({"fx": 0.0}, "intrinsics: CAM: fx, fy, cx, cy are"),
        ({"cy": float("nan")}, "intrinsics: CAM: fx, fy, cx, cy are"),
    ],
)
def test_a_calibration_that_cannot_be_drawn_is_named(tmp_path, lens, text):
    write_dgp_scene(tmp_path, lens=lens)
    with pytest.raises(DriveError, match=rf"key\.json: (malformed: )?{text}"):
        read_dgp(tmp_path)
