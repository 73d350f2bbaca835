"""Many scenes and cameras per call, and antialiasing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from raster_scenes import make_camera, random_scene

from rap_raster.camera import Distortion
from rap_raster.frames import Pose
from rap_raster.geometry import place
from rap_raster.ground import build_ground
from rap_raster.rasterizer import CHANNELS, build_geometry, render, render_batch
from rap_raster.styles import load_style
from rap_raster.visibility import see

RIG = [make_camera(yaw=yaw) for yaw in (0.0, 1.1, -1.1)]


def geometries(count, style="rap"):
    return [build_geometry(random_scene(seed), load_style(style)) for seed in range(count)]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("style", ["rap", "semantic"])
def test_a_batch_equals_its_single_images_whatever_the_number_of_threads(threads, style):
    scenes = geometries(4, style)
    batch = render_batch(scenes, [RIG], tuple(CHANNELS), threads=threads)
    assert batch["rgb"].shape == (4, 3, 90, 160, 3)
    for s, geometry in enumerate(scenes):
        for c, camera in enumerate(RIG):
            single = render(geometry, camera, tuple(CHANNELS))
            for name in CHANNELS:
                np.testing.assert_array_equal(batch[name][s, c], single[name])


def test_each_scene_may_have_a_rig_of_its_own_and_the_callers_buffers_are_used():
    scenes = geometries(2)
    rigs = [RIG, [make_camera(yaw=2.0), make_camera(yaw=0.1, focal=40.0), RIG[0]]]
    out = {"class": np.full((2, 3, 90, 160), 77, np.uint8)}
    batch = render_batch(scenes, rigs, ("class", "depth"), out)
    assert batch["class"] is out["class"]
    single = render(scenes[1], rigs[1][1], ("class", "depth"))
    np.testing.assert_array_equal(batch["class"][1, 1], single["class"])
    np.testing.assert_array_equal(batch["depth"][1, 1], single["depth"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rigs": [RIG, RIG]}, "rigs: expected 1 or 3, got 2"),
        ({"rigs": [[RIG[0], RIG[0].resized(80, 45)]]}, "rigs: need equal cameras"),
        ({"rigs": [RIG, RIG[:2], RIG]}, "rigs: need equal cameras"),
        ({"channels": ("rgb", "normal")}, "channels: unknown 'normal'"),
        ({"out": {"rgb": np.empty((3, 3, 90, 160), np.uint8)}}, r"out\['rgb'\]: expected a C-con"),
        ({"threads": 0}, "threads: must be >= 1, got 0"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_batch(**{"geometries": geometries(3), "rigs": [RIG], **arguments})


def test_ground_built_once_draws_the_same_from_every_pose():
    style, scene = load_style("semantic"), random_scene(2)
    ground = build_ground(scene.polylines, scene.polygons, style)
    for x_m, yaw_rad in [(0.0, 0.0), (7.0, 0.4), (-12.0, 2.0)]:
        there = replace(scene, ego=replace(scene.ego, x_m=x_m, yaw_rad=yaw_rad))
        shared = place(ground, there.ego, there.boxes, there.lights, style)
        once = render(build_geometry(there, style), RIG[0], tuple(CHANNELS))
        again = render(shared, RIG[0], tuple(CHANNELS))
        for name in CHANNELS:
            np.testing.assert_array_equal(once[name], again[name])


def test_a_scene_too_large_for_the_working_memory_is_drawn_all_the_same():
    # More faces, more runs and a larger image than anything drawn before in this process.
    large = random_scene(5)
    copies = [
        replace(large.polylines, points_m=large.polylines.points_m + np.array([0, 0.1, 1e-6]) * k)
        for k in range(120)
    ]
    style = load_style("semantic")
    many = replace(
        large,
        polylines=replace(
            large.polylines,
            kinds=np.tile(large.polylines.kinds, 120),
            points_m=np.concatenate([c.points_m for c in copies]),
            offsets=np.concatenate(
                [[0], *[c.offsets[1:] + k * len(c.points_m) for k, c in enumerate(copies)]]
            ).astype(np.int32),
        ),
    )
    camera = make_camera(pitch=0.4, at=(-8.0, 0.0, 14.0)).resized(640, 360)
    geometry = build_geometry(many, style)
    first = render(geometry, camera, tuple(CHANNELS))
    again = render(geometry, camera, tuple(CHANNELS))
    assert set(np.unique(first["class"])) >= {12, 13}
    for name in CHANNELS:
        np.testing.assert_array_equal(first[name], again[name])


def test_supersampling_averages_the_image_of_twice_the_size_with_lines_twice_as_wide_in_pixels():
    style = load_style("rap")
    ground = replace(style.ground, min_px=2.0 * style.ground.min_px)
    scene, camera = random_scene(1), RIG[0]
    large = render(
        build_geometry(scene, replace(style, ground=ground)), camera.resized(320, 180), ("rgb",)
    )["rgb"]
    expected = large.reshape(90, 2, 160, 2, 3).mean(axis=(1, 3))
    smooth = render(build_geometry(scene, replace(style, supersample=2)), camera, tuple(CHANNELS))
    assert np.abs(smooth["rgb"] - expected).max() <= 0.5
    # Codes, ids and depths are not averaged: they stay those of the pixel centre.
    plain = render(build_geometry(scene, style), camera, tuple(CHANNELS))
    for name in ("class", "instance", "depth"):
        np.testing.assert_array_equal(smooth[name], plain[name])
    assert (smooth["rgb"] != plain["rgb"]).any()


def test_supersampling_works_through_a_lens():
    lens = Distortion("plumb_bob", (-0.3, 0.1, 0.0, 0.0))
    camera = replace(RIG[0], distortion=lens)
    scene, style = random_scene(1), load_style("semantic")
    smooth = render(build_geometry(scene, replace(style, supersample=2)), camera)["rgb"]
    plain = render(build_geometry(scene, style), camera)["rgb"]
    # The same picture but for its edges.
    assert np.median(np.abs(smooth.astype(int) - plain)) <= 1


def test_numbers_of_any_type_and_read_only_arrays_do_not_compile_the_kernels_again():
    geometry, camera = geometries(1)[0], RIG[0]
    expected = render(geometry, camera, tuple(CHANNELS))
    known = len(see.signatures)
    pose = camera.ego_from_camera.copy()
    pose.setflags(write=False)
    odd = replace(camera, fx=np.float32(80), fy=80, cx=np.float64(camera.cx), ego_from_camera=pose)
    there = replace(geometry, ego=Pose(0, np.float32(0), np.float64(0), 0))
    images = render(there, odd, tuple(CHANNELS))
    assert len(see.signatures) == known
    for name in CHANNELS:
        np.testing.assert_array_equal(images[name], expected[name])
