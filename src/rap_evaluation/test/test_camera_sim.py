from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rap_evaluation.camera_sim import simulate_camera
from rap_raster.camera import CameraModel, Distortion, optical_rotation, project_points
from rap_raster.frames import Pose
from rap_raster.rasterizer import build_geometry, render
from rap_raster.scene import Boxes, Lights, PolygonKind, Scene, Shapes
from rap_raster.styles import load_style

ROAD = [[-10.0, -8.0, 0.0], [90.0, -8.0, 0.0], [90.0, 8.0, 0.0], [-10.0, 8.0, 0.0]]
CAR = [7, 1, 14.0, 2.0, 0.75, 4.6, 1.9, 1.5, 0.4, 0.0, 0.0]


def scene(boxes=(CAR,), ego=Pose(0.0, 0.0, 0.0, 0.0)) -> Scene:  # noqa: B008 - a frozen value
    return Scene(
        ego=ego,
        boxes=Boxes.from_rows(list(boxes)),
        polylines=Shapes.from_list([]),
        polygons=Shapes.from_list([(PolygonKind.DRIVABLE, ROAD)]),
        lights=Lights.empty(),
    )


def camera() -> CameraModel:
    pose = np.eye(4)
    pose[:3, :3] = optical_rotation(0.0)
    pose[:3, 3] = (1.5, 0.0, 1.6)
    return CameraModel("front", 160, 96, 100.0, 100.0, 79.5, 47.5, pose)


def test_a_car_changes_its_own_pixels_and_otherwise_only_the_ground_it_shades():
    with_car = simulate_camera(scene(), camera(), seed=5).astype(int)
    without = simulate_camera(scene(boxes=()), camera(), seed=5).astype(int)
    changed = (with_car != without).any(axis=2)
    channels = render(
        build_geometry(scene(), load_style("semantic")), camera(), ("class", "instance")
    )
    car = channels["instance"] == 7
    assert car.sum() > 100
    assert changed[car].mean() > 0.95
    assert (channels["class"][changed & ~car] == PolygonKind.DRIVABLE).all()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    first, second, other = (simulate_camera(scene(), camera(), seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_the_picture_is_another_domain_than_the_raster():
    raster = render(build_geometry(scene(), load_style("semantic")), camera())["rgb"]
    picture = simulate_camera(scene(), camera(), seed=1)
    assert np.abs(picture.astype(int) - raster).mean() > 40


def test_the_sky_is_brighter_and_bluer_than_the_road():
    picture = simulate_camera(scene(boxes=()), camera(), seed=1).astype(float)
    sky, road = picture[:20].mean((0, 1)), picture[80:].mean((0, 1))
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


def test_lens_models_are_refused():
    bent = replace(camera(), distortion=Distortion("plumb_bob", (0.1, 0.0, 0.0, 0.0)))
    with pytest.raises(ValueError, match="pinhole"):
        simulate_camera(scene(), bent, seed=1)
