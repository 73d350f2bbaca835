"""The Warp backend against the CPU rasterizer and, directly, the float64 reference.

It draws on a GPU where there is one, else on Warp's CPU device.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import reference_rasterizer as reference
from raster_scenes import (
    HARD_CASES,
    assert_same,
    car,
    exact_style,
    make_camera,
    make_scene,
    moved,
    random_scene,
    sloping,
)

from rap_raster import cli
from rap_raster.camera import Distortion
from rap_raster.lens import lens_grid
from rap_raster.rasterizer import CHANNELS, build_geometry, render
from rap_raster.styles import FADE_PRIMITIVE, load_style

pytest.importorskip("warp", reason="needs warp-lang, see requirements/dev.txt")

from rap_raster.warp_backend import WarpRasterizer  # after it is known that there is Warp

ALL = tuple(CHANNELS)
EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "scene.json"
STYLES = {"exact": exact_style(), "rap": load_style("rap"), "semantic": load_style("semantic")}
PLUMB_BOB = Distortion("plumb_bob", (-0.356, 0.173, 1e-3, -2e-3, -0.05))
RATIONAL = Distortion("rational_polynomial", (0.8, -0.1, 1e-3, 2e-3, 0.02, 1.1, 0.1, -0.01))
FISHEYE = Distortion("equidistant", (0.02, -0.01, 0.003, -0.0005))
LENSES = pytest.mark.parametrize(
    ("lens", "focal"),
    [(PLUMB_BOB, 140.0), (RATIONAL, 120.0), (FISHEYE, 70.0)],
    ids=lambda value: getattr(value, "model", ""),
)


@pytest.fixture(scope="module")
def warp():
    return WarpRasterizer()


def wrong_pixels(ours, other):
    """How the images differ, by channel: class and instance exactly, the others in tolerance."""
    same_solid = (ours["class"] == other["class"]) & (ours["instance"] == other["instance"])
    with np.errstate(invalid="ignore"):
        close = np.abs(ours["depth"] - other["depth"]) <= 1e-3 * other["depth"]
    close |= np.isinf(ours["depth"]) & np.isinf(other["depth"])
    levels = np.abs(ours["rgb"].astype(int) - other["rgb"]).max(axis=-1)
    return {"solid": ~same_solid, "depth": ~close, "rgb": levels > 1}


def assert_agrees(warp, scene, camera, style, allowed=2):
    """Compares all channels with the CPU rasterizer; only sub-pixel ties may differ."""
    geometry = build_geometry(scene, style)
    ours, other = warp.render(geometry, camera, ALL), render(geometry, camera, ALL)
    counts = {name: int(wrong.sum()) for name, wrong in wrong_pixels(ours, other).items()}
    assert max(counts.values()) <= allowed, counts
    return ours


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("yaw", [0.0, 1.2])
def test_random_scenes_agree_with_the_cpu(warp, style, seed, yaw):
    images = assert_agrees(warp, random_scene(seed), make_camera(yaw=yaw), STYLES[style])
    # The comparison must not be one of empty images.
    assert len(np.unique(images["class"])) > 3


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", HARD_CASES)
def test_hard_cases_agree_with_the_cpu(warp, style, name):
    assert_agrees(warp, HARD_CASES[name], make_camera(), STYLES[style])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("rise", "bend"), [(0.04, 1.5), (-0.06, 0.0)])
def test_hills_agree_with_the_cpu(warp, seed, rise, bend):
    scene = sloping(random_scene(seed), rise, bend)
    for style in STYLES.values():
        assert_agrees(warp, scene, make_camera(pitch=0.2, at=(1.5, 0.3, 4.0)), style)


@pytest.mark.parametrize("seed", range(4))
def test_random_scenes_agree_with_the_reference(warp, seed):
    assert_same(random_scene(seed), make_camera(), exact_style(), draw=warp.render)


def test_the_comparison_notices_a_shift_of_one_pixel(warp):
    geometry, camera = build_geometry(random_scene(0), exact_style()), make_camera()
    shifted = warp.render(geometry, replace(camera, cx=camera.cx + 1), ALL)
    assert wrong_pixels(shifted, render(geometry, camera, ALL))["solid"].sum() > 100


def test_far_from_the_origin_of_the_map_the_image_is_the_same(warp):
    scene = moved(random_scene(3), np.array([5.0e5, 4.2e6, 300.0]), 0.7)
    assert_agrees(warp, scene, make_camera(), STYLES["semantic"])


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (1, 1), (257, 131)])
def test_images_need_not_be_whole_tiles(warp, size):
    assert_agrees(warp, random_scene(1), make_camera().resized(*size), STYLES["rap"])


def test_an_empty_scene_is_empty_in_every_channel(warp):
    images = warp.render(build_geometry(make_scene(), STYLES["rap"]), make_camera(), ALL)
    assert np.isinf(images["depth"]).all()
    assert not any(images[name].any() for name in ("rgb", "class", "instance"))


@pytest.mark.parametrize("lens", [None, PLUMB_BOB], ids=["pinhole", "plumb_bob"])
@pytest.mark.parametrize("style", ["rap", "semantic"])
def test_supersampled_colours_agree_with_the_cpu(warp, style, lens):
    look = replace(STYLES[style], supersample=2)
    camera = replace(make_camera(focal=100.0), distortion=lens)
    geometry = build_geometry(random_scene(5), look)
    ours, other = warp.render(geometry, camera), render(geometry, camera)
    different = np.abs(ours["rgb"].astype(int) - other["rgb"]).max(axis=-1) > 1
    # A tie at twice the size is a quarter of a pixel; through a lens the CPU draws short chords.
    assert different.mean() <= (1e-4 if lens is None else 2e-2)
    plain = warp.render(build_geometry(random_scene(5), STYLES[style]), camera)
    assert (ours["rgb"] != plain["rgb"]).any(axis=-1).mean() > 0.02


def test_an_area_with_one_depth_cue_has_that_of_all_its_corners(warp):
    # No style of the package has it: areas of many faces, shaded as one.
    style = exact_style()
    one_cue = np.full_like(style.ground.fades, FADE_PRIMITIVE)
    style = replace(style, ground=replace(style.ground, fades=one_cue))
    assert_agrees(warp, random_scene(2), make_camera(), style)


@LENSES
@pytest.mark.parametrize("seed", [1, 2])
def test_through_a_lens_rays_agree_with_the_reference(warp, lens, focal, seed):
    camera = replace(make_camera(focal=focal), distortion=lens)
    rays = lens_grid(camera).rays.astype(np.float64)
    rays = np.dstack([rays, np.ones(rays.shape[:2])])
    scene, style = random_scene(seed), exact_style()
    ours = warp.render(build_geometry(scene, style), camera, ALL)
    codes, ids, depth, rgb = reference.render_reference(scene, style, camera, rays)
    expected = {"class": codes, "instance": ids, "depth": depth, "rgb": rgb}
    for name, wrong in wrong_pixels(ours, expected).items():
        assert wrong.sum() <= 2, name


def lens_scene():
    """Lines near and far, along and across, on an area, and boxes; all in a fisheye's view."""
    boxes = [car(1, 10, 1, 0.3), car(2, 3, 2.5, z=1.5, size=(8, 2.5, 3.0), code=2)]
    lines = [(13, [[0, -5, 0], [20, -5, 0], [50, -8, 0]]), (14, [[6, -4, 0], [6, 4, 0]])]
    lines += [(10, [[0, 3, 0], [40, 3, 0], [90, 3, 0]]), (10, [[25, -12, 0], [25, 0, 0]])]
    lines += [(10, [[95, -3, 0], [1, -3, 0]])]  # one segment from thin to wide
    return make_scene(boxes, lines, [(23, [[-2, -6, 0], [60, -6, 0], [60, 6, 0], [-2, 6, 0]])])


@LENSES
@pytest.mark.parametrize("style", ["rap", "semantic"])
def test_through_a_lens_minimum_widths_agree_with_the_cpu_but_for_edges(warp, lens, focal, style):
    camera = replace(make_camera(focal=focal), distortion=lens)
    window = np.ones((3, 3), np.uint8)
    for scene in (lens_scene(), random_scene(1), random_scene(2)):
        geometry = build_geometry(scene, STYLES[style])
        ours, other = warp.render(geometry, camera, ALL), render(geometry, camera, ALL)
        wrong = wrong_pixels(ours, other)["solid"]
        # The CPU's chords lie within 0.1 px of what the rays see: pixels at edges may differ.
        assert wrong.mean() < 5e-3
        for name in ("class", "instance"):
            image = other[name].astype(np.float32)
            wrong &= cv2.dilate(image, window) == cv2.erode(image, window)
        assert not wrong.any()


@LENSES
@pytest.mark.parametrize("style", ["rap", "semantic"])
def test_through_a_lens_far_lines_keep_their_minimum_width(warp, lens, focal, style):
    camera = replace(make_camera(focal=focal), distortion=lens)
    ours = warp.render(build_geometry(lens_scene(), STYLES[style]), camera, ("class",))
    thin = warp.render(build_geometry(lens_scene(), exact_style(style)), camera, ("class",))
    assert (ours["class"] == 10).sum() > 1.2 * (thin["class"] == 10).sum()


def test_where_a_lens_has_no_ray_nothing_is_drawn(warp):
    camera = replace(make_camera(), distortion=Distortion("plumb_bob", (-1 / 3, 0.0, 0.0, 0.0)))
    outside = np.isnan(lens_grid(camera).rays).any(axis=-1)
    images = warp.render(build_geometry(lens_scene(), STYLES["semantic"]), camera, ALL)
    assert outside.any()
    assert np.isinf(images["depth"][outside]).all()
    assert not any(images[name][outside].any() for name in ("rgb", "class", "instance"))
    assert images["class"][~outside].any()


def test_only_the_channels_asked_for_are_returned_and_out_is_used(warp):
    geometry, camera = build_geometry(random_scene(1), STYLES["rap"]), make_camera()
    everything = warp.render(geometry, camera, ALL)
    for name, image in everything.items():
        alone = warp.render(geometry, camera, (name,))
        assert list(alone) == [name]
        assert (image.dtype, image.shape[:2]) == (CHANNELS[name][0], (90, 160))
        np.testing.assert_array_equal(alone[name], image)
    buffer = np.full((90, 160, 3), 7, np.uint8)
    assert warp.render(geometry, camera, ("rgb",), {"rgb": buffer})["rgb"] is buffer
    np.testing.assert_array_equal(buffer, everything["rgb"])


def test_images_can_stay_on_the_device(warp):
    geometry, camera = build_geometry(random_scene(1), STYLES["rap"]), make_camera()
    expected = warp.render(geometry, camera, ALL)
    for name, image in warp.render_on_device(geometry, camera, ALL).items():
        assert str(image.device) == warp.device
        np.testing.assert_array_equal(image.numpy(), expected[name])


def test_what_is_kept_on_the_device_is_exchanged_with_the_scene(warp):
    camera, style = make_camera(), STYLES["rap"]
    first, second = (build_geometry(random_scene(seed), style) for seed in (1, 2))
    alone = WarpRasterizer(warp.device).render(first, camera)["rgb"]
    warp.render(first, camera)
    assert (warp.render(second, camera)["rgb"] != alone).any()
    np.testing.assert_array_equal(warp.render(first, camera)["rgb"], alone)


def test_wrong_arguments_are_refused_as_on_the_cpu(warp):
    geometry, camera = build_geometry(make_scene(), STYLES["rap"]), make_camera()
    with pytest.raises(ValueError, match="channels: unknown 'normal'"):
        warp.render(geometry, camera, ("normal",))
    with pytest.raises(ValueError, match="channels: unknown 'normal'"):
        warp.render_on_device(geometry, camera, ("normal",))
    with pytest.raises(ValueError, match="out\\['rgb'\\]: expected a C-contiguous uint8 array"):
        warp.render(geometry, camera, ("rgb",), {"rgb": np.empty((90, 161, 3), np.uint8)})
    with pytest.raises(ValueError, match="device: unknown 'abacus', expected any of"):
        WarpRasterizer("abacus")


def test_the_command_draws_the_same_with_either_backend(monkeypatch, tmp_path):
    for backend in ("cpu", "warp"):
        arguments = ["--out", str(tmp_path / backend), "--size", "128x64", "--backend", backend]
        monkeypatch.setattr(sys, "argv", ["rap-raster", "render", str(EXAMPLE), *arguments])
        cli.main()
    for path in sorted((tmp_path / "cpu").glob("*.npz")):
        with np.load(path) as cpu, np.load(tmp_path / "warp" / path.name) as warp:
            wrong = wrong_pixels(dict(warp), dict(cpu))
        assert max(int(pixels.sum()) for pixels in wrong.values()) <= 2
        assert (tmp_path / "warp" / path.name).with_suffix(".png").exists()


def test_without_the_backend_warp_is_not_imported():
    program = "import sys, rap_raster.cli, rap_raster.rasterizer; sys.exit('warp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
