"""Overlays: the raster of a box must lie where the recording's own numbers put it.

The expected places are computed here, from the file's matrices, without our scene, frames or
cameras; on real data also by those who published them.
"""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from small_recordings import (
    BOX_CENTER_MAP,
    BOX_SIZE,
    BOX_YAW,
    CAMERA_MATRIX,
    EGO_FROM_CAMERA,
    IMAGE_SIZE,
    MAP_FROM_EGO,
    box_corners,
    car_box,
    keyframe,
    nuscenes_scene,
    write_dgp_scene,
    write_keyframe,
)
from typer.testing import CliRunner

from rap_bringup.cli import app
from rap_bringup.drives.nuscenes_keyframe import read_keyframe
from rap_bringup.drives.recorded_drive import DriveError
from rap_bringup.overlay import OUTLINE, SHEET_NAME, blend, contact_sheet, draw_overlay, outlines
from rap_bringup.overlay_frames import dgp_frames, nuscenes_frames
from rap_perception.images import decode_compressed
from rap_raster.camera import CameraModel, optical_rotation
from rap_raster.frames import transform_from_yaw
from rap_raster.rasterizer import build_geometry, render
from rap_raster.scene import LineKind, ObjectClass, PolygonKind, Shapes
from rap_raster.styles import load_style

STYLE = load_style("semantic")
PIXEL = 1.0
"""A silhouette's last pixel centre lies up to one pixel inside it."""
DRAWN_M = 120.0


def mask_rectangle(view, index):
    """Returns left, top, right, bottom of a box drawn alone; NaN where it is not drawn.

    Alone means without the ground too: flat ground hides what stands below it.
    """
    boxes, nothing = view.scene.boxes.select(np.array([index])), Shapes.from_list([])
    alone = replace(view.scene, boxes=boxes, polylines=nothing, polygons=nothing)
    drawn = render(build_geometry(alone, STYLE), view.camera, ("instance",))["instance"]
    rows, columns = np.nonzero(drawn == view.scene.boxes.ids[index])
    if not len(rows):
        return np.full(4, np.nan)
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()], float)


def rectangle(points_camera, camera_matrix):
    """Returns left, top, right, bottom of (N, 3) points seen through a pinhole."""
    pixels = points_camera @ camera_matrix.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


def inside(box, size):
    return bool((box[:2] > 0).all() and box[2] < size[0] - 1 and box[3] < size[1] - 1)


def turned(view, yaw_rad):
    """The view with a camera that is mounted `yaw_rad` away from where it was calibrated."""
    pose = view.camera.ego_from_camera.copy()
    pose[:3, :3] = transform_from_yaw(yaw_rad, (0.0, 0.0, 0.0))[:3, :3] @ pose[:3, :3]
    return replace(view, camera=replace(view.camera, ego_from_camera=pose))


# A keyframe made here: an ego that rolls and pitches, and an upright car.


@pytest.fixture
def view(tmp_path):
    write_keyframe(tmp_path)
    return nuscenes_frames(tmp_path, tmp_path / "scene.npz")[0].views[0]


def expected_rectangle():
    camera_from_map = np.linalg.inv(MAP_FROM_EGO @ EGO_FROM_CAMERA)
    corners = box_corners(BOX_CENTER_MAP, BOX_SIZE, BOX_YAW)
    seen = corners @ camera_from_map[:3, :3].T + camera_from_map[:3, 3]
    return rectangle(seen, CAMERA_MATRIX)


def test_an_upright_box_is_drawn_as_a_leaning_ego_sees_it(view):
    expected = expected_rectangle()
    assert inside(expected, IMAGE_SIZE)
    np.testing.assert_allclose(mask_rectangle(view, 0), expected, atol=PIXEL)


def test_a_shifted_calibration_is_seen(view):
    error = np.abs(mask_rectangle(turned(view, 0.01), 0) - expected_rectangle())
    assert error[[0, 2]].min() > 2 * PIXEL  # 0.01 rad at a focal length of 300 px: 3 px sideways


def test_the_map_lies_level_at_the_height_of_the_ego(view):
    points = view.scene.polylines.points_m
    assert len(points) > 1
    assert (points[:, 2] == MAP_FROM_EGO[2, 3]).all()
    assert view.scene.boxes.classes.tolist() == [ObjectClass.VEHICLE]


def test_a_category_without_class_is_generic_and_no_boxes_are_no_error(tmp_path):
    content = keyframe()
    content["frame"]["instances"][0]["bbox_label_3d"] = -1
    write_keyframe(tmp_path, content)
    assert read_keyframe(tmp_path).boxes.classes.tolist() == [ObjectClass.GENERIC]
    content["frame"]["instances"] = []
    write_keyframe(tmp_path, content)
    assert len(read_keyframe(tmp_path).boxes) == 0


FRAME = ("frame",)
FRONT = ("frame", "images", "FRONT")


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        (("frame",), None, "info.json: frame: "),
        ((*FRAME, "ego2global"), None, "info.json: frame.ego2global: "),
        ((*FRAME, "ego2global"), np.diag([1, 1, 2, 1]).tolist(), "ego2global: .*rigid transform"),
        ((*FRAME, "ego2global"), np.diag([1, 1, -1, 1]).tolist(), "ego2global: .*rigid transform"),
        ((*FRAME, "lidar_points", "lidar2ego"), [[1]], "frame.lidar_points.lidar2ego"),
        ((*FRAME, "images"), {}, "info.json: frame.images: "),
        ((*FRONT, "lidar2cam"), "x", "info.json: frame.images.FRONT.lidar2cam: "),
        ((*FRONT, "cam2img"), [[1, 1, 1], [0, 1, 1], [0, 0, 1]], "FRONT.cam2img: .*fx 0 cx"),
        ((*FRONT, "cam2img"), [[0, 0, 1], [0, 1, 1], [0, 0, 1]], "FRONT: fx, fy, cx, cy are"),
        ((*FRONT, "img_path"), "none.jpg", "none.jpg: cannot be read: No such file"),
        ((*FRONT, "img_path"), "info.json", "info.json: cannot be read: .*neither JPEG nor PNG"),
        ((*FRONT, "img_path"), "\0", "cannot be read"),
        ((*FRONT, "timestamp"), 1e99, "frame.images.FRONT.timestamp"),
        (("frame", "images", "../up"), keyframe()["frame"]["images"]["FRONT"], "name '../up'"),
        ((*FRAME, "instances", 0, "bbox_3d", 2), float("nan"), "frame.instances.0.bbox_3d.2: "),
        ((*FRAME, "instances", 0, "bbox_3d", 4), 0, "frame.instances: box 0: size is"),
        ((*FRAME, "instances", 0, "velocity"), None, "frame.instances.0.velocity: "),
    ],
)
def test_a_value_that_cannot_be_drawn_is_named_with_its_file(tmp_path, place, value, text):
    content = keyframe()
    owner = content
    for key in place[:-1]:
        owner = owner[key]
    owner[place[-1]] = value
    write_keyframe(tmp_path, content)
    with pytest.raises(DriveError, match=text) as caught:
        read_keyframe(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def _places(node, prefix=()):
    items = list(enumerate(node)) if isinstance(node, list) else []
    items = list(node.items()) if isinstance(node, dict) else items
    return [prefix, *(place for key, child in items for place in _places(child, (*prefix, key)))]


@pytest.mark.parametrize("value", [None, "", [], {}, True, -1, 1e308, float("nan")])
def test_an_odd_value_anywhere_is_read_or_refused_in_one_line(tmp_path, value):
    refusals = []
    for *owners, last in _places(keyframe())[1:]:
        content = keyframe()
        owner = content
        for key in owners:
            owner = owner[key]
        owner[last] = value
        write_keyframe(tmp_path, content)
        try:
            read_keyframe(tmp_path)
        except DriveError as error:
            refusals.append(str(error))
    assert len(refusals) > 30
    assert all(str(tmp_path) in text and "\n" not in text for text in refusals)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\udcff"])
def test_a_file_that_is_no_keyframe_is_one_line(tmp_path, text):
    (tmp_path / "info.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DriveError, match=r"info\.json: ") as caught:
        read_keyframe(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_scene_from_elsewhere_is_refused(tmp_path):
    write_keyframe(tmp_path)
    scene = nuscenes_scene()
    scene["state"][0, :, 1] = 7.0
    np.savez(tmp_path / "elsewhere.npz", **scene)
    with pytest.raises(DriveError, match=r"elsewhere\.npz: state\[0\]: comes no closer than 7\.0"):
        nuscenes_frames(tmp_path, tmp_path / "elsewhere.npz")


# DGP scenes made here.


def test_a_dgp_box_is_drawn_through_the_lens_of_the_calibration(tmp_path):
    """The calibration's frame is the camera's here, so +x of the car's place is to the right."""
    box = car_box()
    box["box"]["pose"]["translation"] = {"x": 2.0, "y": 1.0, "z": 12.0}
    k1 = -0.3
    _write_dgp(tmp_path, boxes=[box], lens={"k1": k1})
    view = dgp_frames(tmp_path)[0].views[0]
    drawn = mask_rectangle(view, 0)
    middle = 0.5 * (drawn[:2] + drawn[2:])
    x, y = 2.0 / 12.0, 1.0 / 12.0
    radial = 1 + k1 * (x * x + y * y)
    assert view.camera.distortion.model == "plumb_bob"
    np.testing.assert_allclose(middle, [31.5 + 50 * x * radial, 23.5 + 50 * y * radial], atol=1.5)


def test_images_of_another_instant_or_size_are_refused(tmp_path):
    _write_dgp(tmp_path, boxes=[car_box()], size=(32, 24))
    with pytest.raises(ValueError, match=r"CAM, frame 0: image is 32x24 pixels, .* 64x48"):
        draw_overlay(dgp_frames(tmp_path)[0].views[0], STYLE)
    scene = json.loads((tmp_path / "scene_1.json").read_text())
    scene["data"][1]["id"]["timestamp"] = "2020-01-01T00:00:00.500000Z"
    (tmp_path / "scene_1.json").write_text(json.dumps(scene))
    with pytest.raises(DriveError, match="no image within 50 ms of any boxes"):
        dgp_frames(tmp_path)


def _write_dgp(folder, *, size=(64, 48), **options):
    grey = np.full((size[1], size[0], 3), 128, np.uint8)
    write_dgp_scene(folder, jpeg=cv2.imencode(".jpg", grey)[1].tobytes(), **options)


# The picture.


def test_the_image_shows_where_the_raster_is_empty_and_through_it_elsewhere():
    image = np.full((4, 6, 3), 100, np.uint8)
    codes = np.zeros((4, 6), np.uint8)
    codes[0] = LineKind.LANE_DIVIDER
    codes[2:, 3:] = ObjectClass.VEHICLE
    codes[1, :2] = PolygonKind.DRIVABLE
    instance = np.where(codes == ObjectClass.VEHICLE, 7, 0).astype(np.int32)
    raster = {"rgb": np.full((4, 6, 3), 200, np.uint8), "class": codes, "instance": instance}
    mixed = blend(image, raster)
    assert (mixed[0] == 185).all()
    assert (mixed[1, :2] == 112).all()
    assert (mixed[2:, :2] == 100).all()
    assert (mixed[3, 4:] == 140).all()
    assert (mixed[2, 2] == OUTLINE).all()
    assert (mixed[2, 3:] == OUTLINE).all()


def test_outlines_part_neighbouring_boxes_and_leave_their_insides():
    instances = np.zeros((5, 10), np.int32)
    instances[:, 2:6], instances[:, 6:] = 1, 2
    assert outlines(instances)[2].tolist() == [x in (1, 2, 5, 6) for x in range(10)]


def test_the_sheet_has_ahead_above_behind_and_left_on_the_left(view):
    yaws = {"back": 3.1, "right": -1.0, "front": 0.0, "left": 1.0}
    tiles = []
    for shade, (name, yaw_rad) in enumerate(yaws.items()):
        pose = np.eye(4)
        pose[:3, :3] = optical_rotation(yaw_rad)
        camera = CameraModel(name, 8, 4, 1.0, 1.0, 0.0, 0.0, pose)
        tiles.append((replace(view, camera=camera), np.full((4, 8, 3), 50 + shade, np.uint8)))
    sheet = contact_sheet(tiles)
    assert sheet.shape == (2 * 320 + 6, 3 * 640 + 2 * 6, 3)
    assert [int(sheet[300, x, 0]) for x in (300, 950, 1600)] == [53, 52, 51]
    assert int(sheet[600, 300, 0]) == 50


# The command.

run = CliRunner().invoke


def test_both_commands_leave_pictures_of_the_cameras_size_and_a_sheet(tmp_path):
    write_keyframe(tmp_path)
    scene = ["--scene", str(tmp_path / "scene.npz")]
    result = run(app, ["overlay", "nuscenes", str(tmp_path), *scene, "--out", str(tmp_path / "n")])
    assert result.exit_code == 0, result.stderr
    assert "1 camera images" in result.stdout
    assert {path.name for path in (tmp_path / "n").iterdir()} == {"FRONT.png", SHEET_NAME}
    picture = cv2.imread(str(tmp_path / "n" / "FRONT.png"))
    assert picture.shape == (IMAGE_SIZE[1], IMAGE_SIZE[0], 3)
    assert (picture == OUTLINE[::-1]).all(axis=-1).any()
    (tmp_path / "d").mkdir()
    _write_dgp(tmp_path / "d", boxes=[car_box()])
    result = run(app, ["overlay", "dgp", str(tmp_path / "d"), "--out", str(tmp_path / "o")])
    assert result.exit_code == 0, result.stderr
    names = {path.name for path in (tmp_path / "o" / "frame_000").iterdir()}
    assert names == {"CAM.png", SHEET_NAME}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nuscenes", "none", "--scene", "scene.npz"], "none/info.json: cannot be read: No such"),
        (["nuscenes", ".", "--scene", "none.npz"], "none.npz: not a scene file"),
        (["nuscenes", ".", "--scene", "scene.npz", "--style", "x"], "style: unknown name 'x'"),
        (["dgp", "none"], "none: not a DGP folder"),
        (["dgp", "."], ".: no scene_<hash>.json in it"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(tmp_path, monkeypatch, arguments, text):
    write_keyframe(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = run(app, ["overlay", *arguments, "--out", "pictures"])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"rap: {text}")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize("command", ["nuscenes", "dgp"])
def test_help_has_an_example(command):
    result = run(app, ["overlay", command, "--help"])
    assert result.exit_code == 0
    assert f"Example: rap overlay {command}" in result.output


# Real data.


@pytest.fixture(scope="module")
def frame_folder(real_data):
    return real_data / "nuscenes" / "frame_scene0061"


@pytest.fixture(scope="module")
def info(frame_folder):
    return json.loads((frame_folder / "info.json").read_text())["frame"]


@pytest.fixture(scope="module")
def real_views(frame_folder):
    scene = frame_folder.parent / "scenes" / "scene-0061.npz"
    return nuscenes_frames(frame_folder, scene)[0].views


def lidar_misfits(views, info, yaw_rad=0.0):
    """Returns how many pixels each mask is off, beyond what the tilt of the lidar explains.

    The expected place comes from the lidar frame through `lidar2cam` and `cam2img` alone. Boxes
    stand upright on the map but are written as if upright on the lidar, so a corner may be off by
    the tilt times its distance from the box's centre.
    """
    up_map = np.array(info["ego2global"])[2, :3] @ np.array(info["lidar_points"]["lidar2ego"])[:3]
    tilt_rad = np.arccos(up_map[2])
    result = []
    for view in views:
        image = info["images"][view.camera.name]
        camera_matrix, camera_from_lidar = np.array(image["cam2img"]), np.array(image["lidar2cam"])
        for index, instance in enumerate(info["instances"]):
            box = np.array(instance["bbox_3d"])
            corners = box_corners(box[:3], box[3:6], box[6])
            seen = corners @ camera_from_lidar[:3, :3].T + camera_from_lidar[:3, 3]
            if seen[:, 2].min() < 1.0:
                continue
            expected = rectangle(seen, camera_matrix)
            if inside(expected, (view.camera.width, view.camera.height)):
                reach_px = 0.5 * np.linalg.norm(box[3:6]) * view.camera.fx / seen[:, 2].min()
                drawn = mask_rectangle(turned(view, yaw_rad), index)
                misfit = np.nan_to_num(np.abs(drawn - expected), nan=np.inf).max()
                result.append(misfit - tilt_rad * reach_px)
    return np.array(result)


@pytest.mark.data
def test_boxes_lie_where_the_files_own_matrices_put_them(real_views, info):
    misfits_px = lidar_misfits(real_views, info)
    assert len(misfits_px) > 60
    assert misfits_px.max() < PIXEL


@pytest.mark.data
def test_a_camera_mounted_a_quarter_of_a_degree_off_is_seen(real_views, info):
    misfits_px = lidar_misfits(real_views, info, yaw_rad=np.deg2rad(0.25))
    assert np.median(misfits_px) > 2 * PIXEL  # 5.5 px at a focal length of 1260 px, less the tilt
    assert misfits_px.max() > 3 * PIXEL


@pytest.mark.data
def test_boxes_cover_the_rectangles_that_were_published_with_them(real_views, info):
    """`cam_instances` has the 2D boxes that nuScenes' own tools made of the upright 3D boxes."""
    errors = []
    for view in real_views:
        camera_from_lidar = np.array(info["images"][view.camera.name]["lidar2cam"])
        places = np.array([instance["bbox_3d"][:3] for instance in info["instances"]])
        places = places @ camera_from_lidar[:3, :3].T + camera_from_lidar[:3, 3]
        for published in info["cam_instances"][view.camera.name]:
            gaps = np.linalg.norm(places - published["bbox_3d"][:3], axis=1)
            box = np.array(published["bbox"])
            if gaps.min() < 0.01 and inside(box, (view.camera.width, view.camera.height)):
                errors.append(np.abs(mask_rectangle(view, int(np.argmin(gaps))) - box).max())
    assert len(errors) > 60
    assert max(errors) < 1.5 * PIXEL


@pytest.mark.data
@pytest.mark.parametrize("name", ["CAM_FRONT", "CAM_BACK_RIGHT"])
def test_dividers_lie_on_bright_paint_and_beside_it_when_shifted(real_views, name):
    """The dashes are the brightest thing along the road: the map fits where it covers them."""
    view = next(view for view in real_views if view.camera.name == name)
    grey = decode_compressed(np.frombuffer(view.jpeg, np.uint8)).mean(axis=2)
    contrast = grey - cv2.blur(grey, (61, 61))
    shifts_m = np.round(np.arange(-1.0, 1.01, 0.1), 1)
    brightness = [contrast[_divider(view, shift_m)].mean() for shift_m in shifts_m]
    assert abs(shifts_m[int(np.argmax(brightness))]) <= 0.1


def _divider(view, shift_m):
    """Returns the pixels of dividers within 30 m, with the map moved sideways."""
    lines, yaw_rad = view.scene.polylines, view.scene.ego.yaw_rad
    moved = lines.points_m + shift_m * np.array([-np.sin(yaw_rad), np.cos(yaw_rad), 0.0])
    scene = replace(view.scene, polylines=Shapes(lines.kinds, lines.offsets, moved))
    drawn = render(build_geometry(scene, STYLE), view.camera, ("class", "depth"))
    return (drawn["class"] == LineKind.LANE_DIVIDER) & (drawn["depth"] < 30.0)


@pytest.fixture(scope="module")
def dgp_views(real_data):
    return [view for frame in dgp_frames(real_data / "dgp") for view in frame.views]


def dgp_misfits(views, folder, yaw_rad=0.0):
    """Returns by how many metres each mask misses the box annotated in the camera's own frame.

    Only `intrinsics` of the calibration are used; the masks come from the boxes of the vehicle
    frame, the poses and the extrinsics.
    """
    names = json.loads(next((folder / "calibration").glob("*.json")).read_text())
    lenses = dict(zip(names["names"], names["intrinsics"], strict=True))
    result = []
    for index, view in enumerate(views):
        lens = lenses[view.camera.name]
        camera_matrix = np.array(
            [[lens["fx"], 0, lens["cx"]], [0, lens["fy"], lens["cy"]], [0, 0, 1]]
        )
        step = index // len(lenses.keys() - {"LIDAR"})
        path = sorted((folder / "bounding_box_3d" / view.camera.name).iterdir())[step]
        for annotation in json.loads(path.read_text())["annotations"]:
            corners, size = _annotated(annotation["box"])
            same = np.flatnonzero(np.abs(view.scene.boxes.sizes_m - size).max(axis=1) < 1e-3)
            expected = rectangle(corners, camera_matrix)
            depth_m = corners[:, 2].min()
            drawable = depth_m > 1.0 and corners[:, 2].max() < DRAWN_M
            if drawable and inside(expected, (view.camera.width, view.camera.height)):
                drawn = [mask_rectangle(turned(view, yaw_rad), int(i)) for i in same]
                errors = np.nan_to_num(np.abs(np.array(drawn) - expected), nan=np.inf)
                error_px = errors.max(axis=1).min()
                result.append(max(0.0, error_px - PIXEL) * depth_m / lens["fx"])
    return np.array(result)


def _annotated(box):
    turn = box["pose"]["rotation"]
    w, x, y, z = (turn[name] for name in ("qw", "qx", "qy", "qz"))
    matrix = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    size = np.array([box["length"], box["width"], box["height"]])
    center = np.array([box["pose"]["translation"][axis] for axis in "xyz"])
    return box_corners(np.zeros(3), size, 0.0) @ matrix.T + center, size


@pytest.mark.data
def test_dgp_boxes_lie_where_each_camera_annotates_them(dgp_views, real_data):
    misfits_m = dgp_misfits(dgp_views, real_data / "dgp" / "scene_02")
    assert len(misfits_m) > 30
    assert misfits_m.max() < 0.15  # stamps differ by 9 ms, in which a car moves 0.12 m


@pytest.mark.data
def test_a_dgp_camera_mounted_half_a_degree_off_is_seen(dgp_views, real_data):
    yaw_rad = np.deg2rad(0.5)
    misfits_m = dgp_misfits(dgp_views, real_data / "dgp" / "scene_02", yaw_rad)
    assert np.median(misfits_m) > 0.3  # 0.26 m at 30 m
