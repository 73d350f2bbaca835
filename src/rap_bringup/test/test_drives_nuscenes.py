"""nuScenes scenes against the dataset's own keyframe, and what malformed files say."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from small_recordings import nuscenes_scene

from rap_bringup.bag_reader import messages, open_bag
from rap_bringup.bags import write_bag
from rap_bringup.drives.nuscenes import FIELDS, read_nuscenes
from rap_bringup.drives.recorded_drive import DriveError
from rap_raster.frames import wrap_angle
from rap_raster.scene import LineKind, ObjectClass, PolygonKind

EGO_SPEED_MPS = 9.2
"""Of the ego at the keyframe; stamps of pose and tracks differ by up to 20 ms."""


@pytest.fixture(scope="module")
def scene_path(real_data):
    return real_data / "nuscenes" / "scenes" / "scene-0061.npz"


@pytest.fixture(scope="module")
def scene(scene_path):
    return read_nuscenes(scene_path)


@pytest.mark.data
def test_ego_is_at_the_rear_axle_the_keyframe_gives(scene, real_data):
    frame = _keyframe(real_data)
    ego_from_file = np.array(frame["ego2global"])
    offset = ego_from_file[:2, 3] - [scene.ego[0].x_m, scene.ego[0].y_m]
    forward = np.array([np.cos(scene.ego[0].yaw_rad), np.sin(scene.ego[0].yaw_rad)])
    assert abs(offset @ forward) < EGO_SPEED_MPS * 0.02  # a box centre would be 1.2 m ahead
    assert abs(offset[0] * forward[1] - offset[1] * forward[0]) < 0.05
    yaw_rad = np.arctan2(ego_from_file[1, 0], ego_from_file[0, 0])
    assert abs(wrap_angle(yaw_rad - scene.ego[0].yaw_rad)) < 0.01


@pytest.mark.data
def test_boxes_are_where_the_keyframe_annotates_them(scene, real_data):
    frame = _keyframe(real_data)
    map_from_lidar = np.array(frame["ego2global"]) @ np.array(frame["lidar_points"]["lidar2ego"])
    boxes = scene.objects[0].boxes
    found = 0
    for instance in frame["instances"]:
        annotated = np.array(instance["bbox_3d"])
        center = (map_from_lidar @ [*annotated[:3], 1.0])[:3]
        distances = np.linalg.norm(boxes.centers_m - center, axis=1)
        nearest = int(np.argmin(distances))
        if distances[nearest] < 0.01:
            found += 1
            np.testing.assert_allclose(boxes.sizes_m[nearest], annotated[3:6], atol=1e-3)
    assert found >= 0.95 * len(frame["instances"])


@pytest.mark.data
def test_odometry_velocity_is_the_motion_and_does_not_end_in_a_made_up_stop(scene):
    before, last = scene.ego[-6], scene.ego[-1]
    moved = np.hypot(last.x_m - before.x_m, last.y_m - before.y_m)
    speed_mps = moved / ((last.stamp_ns - before.stamp_ns) * 1e-9)
    assert last.vx_mps == pytest.approx(speed_mps, rel=0.05)
    assert last.vx_mps > 1.0


@pytest.mark.data
def test_vehicles_point_where_they_drive(scene):
    errors = []
    for before, after in pairwise(scene.objects):
        boxes = after.boxes
        for index in np.flatnonzero(boxes.classes == ObjectClass.VEHICLE):
            same = np.flatnonzero(before.boxes.ids == boxes.ids[index])
            if len(same):
                step = boxes.centers_m[index] - before.boxes.centers_m[same[0]]
                if np.hypot(*step[:2]) > 0.2:
                    heading = np.arctan2(step[1], step[0])
                    errors.append(abs(wrap_angle(heading - boxes.yaws_rad[index])))
    assert len(errors) > 100
    assert np.median(errors) < 0.1


@pytest.mark.data
def test_map_has_what_the_rasterizer_draws_and_a_route_through_it(real_data):
    scene = read_nuscenes(real_data / "nuscenes" / "scenes" / "scene-1077.npz")
    kinds = set(scene.map.polylines.kinds)
    assert {
        LineKind.LANE_BOUNDARY,
        LineKind.LANE_DIVIDER,
        LineKind.LANE_CENTERLINE,
        LineKind.ROAD_BOUNDARY,
    } <= kinds
    assert {PolygonKind.DRIVABLE, PolygonKind.CROSSWALK} <= set(scene.map.polygons.kinds)
    assert scene.route_source == "lane sequence of the map"
    driven = np.array([(state.x_m, state.y_m) for state in scene.ego[::10]])
    nearest = [np.linalg.norm(scene.route_m[:, :2] - place, axis=1).min() for place in driven]
    assert np.median(nearest) < 1.0


@pytest.mark.data
@pytest.mark.parametrize("steps", [40, 120])
def test_cutting_the_scene_leaves_every_input_before_the_cut_as_it_was(scene_path, tmp_path, steps):
    """Nothing of the driven future is in an input: bytes before the cut are equal.

    The route is a navigation goal and may end later in the longer drive.
    """
    with np.load(scene_path) as archive:
        data = {name: archive[name] for name in archive.files}
    data["state"] = data["state"][:, :steps]
    np.savez(tmp_path / "scene-0061.npz", **data)
    for name, path in (("whole", scene_path), ("cut", tmp_path / "scene-0061.npz")):
        write_bag(read_nuscenes(path), tmp_path / name)
    topics = {"odometry", "objects", "rap/map"}
    cut = list(messages(open_bag(tmp_path / "cut"), topics))
    whole = list(messages(open_bag(tmp_path / "whole"), topics))
    assert len(cut) > 5 * steps
    assert whole[: len(cut)] == cut


def _keyframe(real_data):
    path = real_data / "nuscenes" / "frame_scene0061" / "info.json"
    return json.loads(path.read_text())["frame"]


def read_changed(tmp_path, **changes):
    data = {**nuscenes_scene(), **changes}
    path = tmp_path / "scene.npz"
    np.savez(path, **{name: value for name, value in data.items() if value is not None})
    return read_nuscenes(path)


def test_a_tiny_scene_is_read(tmp_path):
    drive = read_changed(tmp_path)
    assert len(drive.objects) == 3
    assert [len(step.boxes) for step in drive.objects] == [1, 1, 1]
    assert drive.ego[-1].vx_mps == pytest.approx(10.0)
    assert np.isnan(drive.objects[0].boxes.velocities_mps).all()
    assert drive.objects[1].boxes.velocities_mps.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_named(tmp_path, name):
    with pytest.raises(DriveError, match=f"scene.npz: field {name} is missing"):
        read_changed(tmp_path, **{name: None})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"state": np.zeros((2, 3, 6))}, r"state has shape \(2, 3, 6\)"),
        ({"state": np.zeros((2, 3, 7))}, r"state\[0\]: the ego must be valid"),
        ({"dt": np.array(0.0)}, "dt > 0"),
        ({"track_type": np.array(["VEHICLE", "UFO"])}, r"track_type\[1\] is 'UFO'"),
        ({"map_off": np.array([0, 3])}, "map_off has 2 entries up to 3, expected 2 up to 2"),
        ({"dims_lwh": np.zeros((2, 3))}, "step 0: box 0: size is"),
    ],
)
def test_values_no_node_could_use_are_named(tmp_path, changes, text):
    with pytest.raises(DriveError, match=text):
        read_changed(tmp_path, **changes)


def test_files_that_are_not_scenes_are_one_line(tmp_path):
    (tmp_path / "scene.npz").write_bytes(b"PK\x03\x04 cut off")
    np.savez_compressed(tmp_path / "damaged.npz", **nuscenes_scene())
    content = bytearray((tmp_path / "damaged.npz").read_bytes())
    first_data = content.index(b"track_id.npy") + len("track_id.npy") + 20  # after the extra field
    content[first_data : first_data + 40] = bytes([255]) * 40
    (tmp_path / "damaged.npz").write_bytes(content)
    names = ("scene.npz", "damaged.npz", "none.npz")
    for path in (*(tmp_path / name for name in names), tmp_path):
        with pytest.raises(DriveError) as caught:
            read_nuscenes(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
