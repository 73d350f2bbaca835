"""The pictures of the camera simulator: their geometry is that of the raster, their look is not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from rap_evaluation.camera_sim import CameraSimulator, simulate_camera
from rap_evaluation.photo.sensor import camera_jpeg
from rap_raster.camera import CameraModel, Distortion, optical_rotation, project_points
from rap_raster.frames import Pose
from rap_raster.lens import distort
from rap_raster.rasterizer import build_geometry, render
from rap_raster.scene import Boxes, Lights, LightState, LineKind, PolygonKind, Scene, Shapes
from rap_raster.styles import load_style

ROAD = [[-10.0, -8.0, 0.0], [90.0, -8.0, 0.0], [90.0, 8.0, 0.0], [-10.0, 8.0, 0.0]]
CAR = [7, 1, 14.0, 2.0, 0.75, 4.6, 1.9, 1.5, 0.4, 0.0, 0.0]
LENSES = (
    Distortion("plumb_bob", (-0.28, 0.07, 0.001, -0.001)),
    Distortion("rational_polynomial", (0.5, 0.1, 0.0, 0.0, 0.01, 0.8, 0.2, 0.01)),
    Distortion("equidistant", (-0.02, 0.003, 0.0, 0.0)),
)


def scene(boxes=(CAR,), ego=Pose(0.0, 0.0, 0.0, 0.0)) -> Scene:  # noqa: B008 - a frozen value
    return Scene(
        ego=ego,
        boxes=Boxes.from_rows(list(boxes)),
        polylines=Shapes.from_list([]),
        polygons=Shapes.from_list([(PolygonKind.DRIVABLE, ROAD)]),
        lights=Lights.empty(),
    )


def camera(distortion: Distortion | None = None) -> CameraModel:
    pose = np.eye(4)
    pose[:3, :3] = optical_rotation(0.0)
    pose[:3, 3] = (1.5, 0.0, 1.6)
    return CameraModel("front", 160, 96, 100.0, 100.0, 79.5, 47.5, pose, distortion)


def raster(of: Scene, through: CameraModel) -> dict[str, np.ndarray]:
    geometry = build_geometry(of, load_style("semantic"))
    return render(geometry, through, ("rgb", "class", "instance"))


def changed_by(boxes, through: CameraModel) -> np.ndarray:
    """Pixels that look clearly different with boxes than without; blur and noise are small."""
    pictures = [simulate_camera(scene(boxes=b), through, seed=5).astype(int) for b in (boxes, ())]
    return np.abs(pictures[0] - pictures[1]).max(axis=2) > 12


def grown(mask: np.ndarray, pixels: int = 2) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2, np.uint8)) > 0


CLASSES = {
    "car": [7, 1, 12.0, 1.0, 0.75, 4.6, 1.9, 1.5, 0.6, 0.0, 0.0],
    "truck": [7, 2, 16.0, 1.0, 1.6, 8.0, 2.5, 3.2, 2.5, 0.0, 0.0],
    "bus": [7, 3, 18.0, 1.0, 1.6, 12.0, 2.6, 3.2, 1.2, 0.0, 0.0],
    "motorcycle": [7, 4, 7.0, 1.0, 0.75, 2.0, 0.8, 1.5, 0.9, 0.0, 0.0],
    "bicycle": [7, 5, 7.0, 1.0, 0.85, 1.8, 0.6, 1.7, 0.9, 0.0, 0.0],
    "pedestrian": [7, 6, 6.0, 1.0, 0.87, 0.6, 0.6, 1.74, 0.3, 0.0, 0.0],
    "cone": [7, 7, 5.0, 1.0, 0.4, 0.5, 0.5, 0.8, 0.0, 0.0, 0.0],
    "barrier": [7, 8, 8.0, 1.0, 0.5, 0.4, 3.0, 1.0, 0.2, 0.0, 0.0],
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("distortion", [None, *LENSES], ids=lambda d: d.model if d else "pinhole")
def test_an_object_is_seen_where_the_raster_shows_it_and_nowhere_else(name, distortion):
    through = camera(distortion)
    shown = raster(scene(boxes=[CLASSES[name]]), through)
    box, ground = shown["instance"] == 7, shown["class"] == PolygonKind.DRIVABLE
    changed = changed_by([CLASSES[name]], through)
    # Beside its box an object darkens the ground with its shadow, but changes nothing else.
    assert not (changed & ~grown(box) & ~grown(ground)).any()
    # People and riders are slimmer than their boxes; white stripes are not unlike a street.
    assert changed[box].mean() > (0.85 if name in {"car", "truck", "bus"} else 0.35)
    # It reaches the top and both sides of its box.
    rows, columns = np.nonzero(changed & grown(box) & ~ground | changed & box)
    expected_rows, expected_columns = np.nonzero(box)
    assert abs(rows.min() - expected_rows.min()) <= 3
    assert abs(columns.min() - expected_columns.min()) <= 0.25 * np.ptp(expected_columns) + 3
    assert abs(columns.max() - expected_columns.max()) <= 0.25 * np.ptp(expected_columns) + 3


def test_the_agreement_is_lost_when_the_camera_moves():
    # The test above could not see what it claims if this agreed as well.
    through = camera()
    turned = replace(through, cx=through.cx + 12.0)
    box = raster(scene(), through)["instance"] == 7
    here, there = changed_by([CAR], through)[box].mean(), changed_by([CAR], turned)[box].mean()
    assert here > 0.9
    assert there < here - 0.1


def test_edges_of_instances_are_edges_of_the_picture():
    through = camera()
    shown, picture = raster(scene(), through), simulate_camera(scene(), through, seed=5)
    box = (shown["instance"] == 7).astype(np.uint8)
    outline = cv2.morphologyEx(box, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    strength = np.abs(cv2.Laplacian(cv2.GaussianBlur(picture, (3, 3), 0), cv2.CV_64F)).max(axis=2)
    elsewhere = (shown["class"] == PolygonKind.DRIVABLE) & ~grown(box > 0, 4)
    assert strength[outline].mean() > 3 * strength[elsewhere].mean()


@pytest.mark.parametrize("distortion", LENSES, ids=lambda d: d.model)
def test_a_lens_moves_the_picture_as_its_formula_says(distortion):
    # A bright line on the road is found where the bent projection of its points is.
    line = [[5.8, 3.5, 0.0], [5.8, -3.5, 0.0]]
    painted = replace(scene(boxes=()), polylines=Shapes.from_list([(LineKind.STOP_LINE, line)]))
    through = camera(distortion)
    picture = simulate_camera(painted, through, seed=5).astype(float).mean(axis=2)
    bare = simulate_camera(scene(boxes=()), through, seed=5).astype(float).mean(axis=2)
    points = np.linspace(line[0], line[1], 40)
    pixels, visible = project_points(through, points)
    flat = (pixels - [through.cx, through.cy]) / [through.fx, through.fy]
    bent = distort(distortion, flat) * [through.fx, through.fy] + [through.cx, through.cy]
    column, row = np.round(bent[visible]).astype(int).T
    assert len(row) > 20
    assert (picture - bare)[row, column].mean() > 25
    assert np.abs(bent - pixels)[visible].max() > 3  # so that the formula matters


def test_the_same_seed_gives_the_same_bytes_and_another_seed_or_frame_does_not():
    first, second, other = (simulate_camera(scene(), camera(), seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, simulate_camera(scene(), camera(), seed=1, frame=1))


def test_frames_of_a_sequence_differ_in_noise_only():
    pictures = [simulate_camera(scene(), camera(), seed=1, frame=f).astype(float) for f in (0, 1)]
    assert np.abs(pictures[0].mean() - pictures[1].mean()) < 1.0
    assert np.corrcoef(pictures[0].ravel(), pictures[1].ravel())[0, 1] > 0.97


def test_the_simulator_of_a_map_and_of_a_scene_agree():
    whole = CameraSimulator(scene().polylines, scene().polygons)
    ego = Pose(5.0, 1.0, 0.0, 0.2)
    picture = whole.image(ego, scene().boxes, scene().lights, camera(), seed=3, frame=4)
    assert np.array_equal(picture, simulate_camera(scene(ego=ego), camera(), seed=3, frame=4))


def test_the_picture_is_another_domain_than_the_raster():
    # Not one colour per surface, not the raster's colours, hardly any black.
    shown, picture = raster(scene(), camera())["rgb"], simulate_camera(scene(), camera(), seed=1)
    assert np.abs(picture.astype(int) - shown).mean() > 40
    colors = [len(np.unique(image.reshape(-1, 3), axis=0)) for image in (shown, picture)]
    assert colors[1] > 10 * colors[0]
    assert (picture.max(axis=2) < 8).mean() < 0.02 < (shown.max(axis=2) == 0).mean()


def test_the_sky_is_brighter_and_bluer_than_the_road():
    picture = simulate_camera(scene(boxes=()), camera(), seed=1).astype(float)
    sky, road = picture[:10, 70:90].mean((0, 1)), picture[80:].mean((0, 1))
    assert sky.mean() > road.mean() + 20
    assert sky[2] - sky[0] > road[2] - road[0]


def test_the_texture_is_fixed_to_the_ground_and_not_to_the_image():
    # The same ground points seen from two places correlate; the same pixels do not.
    x, y = np.meshgrid(np.arange(6.0, 20.0, 0.25), np.arange(-4.0, 4.0, 0.25))
    points = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    here, first = _looked_up(points, drive_m=0.0)
    there, second = _looked_up(points, drive_m=2.0)
    on_ground = np.corrcoef(here, there)[0, 1]
    on_image = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert on_ground > 0.5
    assert on_ground > on_image + 0.2


def _looked_up(points: np.ndarray, drive_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels of map points from `drive_m` further on, and of a fixed patch of road pixels."""
    ego = Pose(drive_m, 0.0, 0.0, 0.0)
    image = simulate_camera(scene(boxes=(), ego=ego), camera(), seed=1).mean(axis=2)
    pixels, _ = project_points(camera(), points - [drive_m, 0.0, 0.0])
    column, row = np.round(pixels).astype(int).T
    return image[row.clip(0, 95), column.clip(0, 159)], image[60:90, 60:100]


@pytest.mark.parametrize(
    ("state", "channel"), [(LightState.RED, 0), (LightState.GREEN, 1), (LightState.UNKNOWN, None)]
)
def test_a_traffic_light_shows_its_state_to_those_it_faces(state, channel):
    def lamp(yaw_rad: float) -> np.ndarray:
        lights = Lights(
            np.array([state], np.uint8),
            np.array([[9.0, 0.0, 2.2]]),
            np.array([[0.4, 0.4, 1.0]]),
            np.array([yaw_rad]),
        )
        shown = replace(scene(boxes=()), lights=lights)
        head = np.isin(raster(shown, camera())["class"], [int(s) for s in LightState])
        picture = simulate_camera(shown, camera(), seed=5).astype(float)[head]
        return picture - picture.mean(axis=1, keepdims=True)

    facing, averted = lamp(np.pi).max(axis=0), lamp(0.0).max(axis=0)
    assert averted.max() < 30
    if channel is None:
        assert facing.max() < 30
    else:
        assert facing.argmax() == channel
        assert facing[channel] > 50


def test_brake_lights_of_a_standing_vehicle_are_seen_from_behind():
    def redness(yaw_rad: float, speed_mps: float) -> np.ndarray:
        car = [5, 1, 9.0, 0.0, 0.8, 4.5, 1.8, 1.5, yaw_rad, speed_mps, 0.0]
        picture = simulate_camera(scene(boxes=(tuple(car),)), camera(), seed=5).astype(float)
        return picture[..., 0] - picture.mean(axis=2)

    behind = redness(0.0, 0.0) - redness(0.0, 5.0)
    assert np.sum(behind > 20) > 20
    assert np.max(redness(np.pi, 0.0) - redness(np.pi, 5.0)) < 20


def test_an_empty_scene_is_a_picture_too():
    nothing = Scene(
        Pose(0.0, 0.0, 0.0, 0.0),
        Boxes.empty(),
        Shapes.from_list([]),
        Shapes.from_list([]),
        Lights.empty(),
    )
    assert simulate_camera(nothing, camera(), seed=1).std() > 5


def test_jpeg_keeps_the_picture_and_loses_detail_by_quality():
    picture = simulate_camera(scene(), camera(), seed=1)
    errors, sizes = [], []
    for quality in (95, 30):
        data = camera_jpeg(picture, quality)
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        errors.append(np.abs(decoded.astype(int) - picture).mean())
        sizes.append(len(data))
    assert errors[0] < 4
    assert errors[0] < errors[1] < 12
    assert sizes[0] > 2 * sizes[1]
