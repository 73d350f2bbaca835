"""Lens models against OpenCV, and rasters drawn through a lens against the slow reference."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import reference_rasterizer as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from raster_scenes import exact_style

from rap_raster.camera import CameraModel, Distortion, optical_rotation
from rap_raster.frames import Pose
from rap_raster.lens import distort, lens_grid, undistort
from rap_raster.rasterizer import build_geometry, render
from rap_raster.scene import Boxes, Lights, Scene, Shapes
from rap_raster.styles import load_style

PLUMB_BOB = Distortion("plumb_bob", (-0.356, 0.173, 1e-3, -2e-3, -0.05))
RATIONAL = Distortion("rational_polynomial", (0.8, -0.1, 1e-3, 2e-3, 0.02, 1.1, 0.1, -0.01))
FISHEYE = Distortion("equidistant", (0.02, -0.01, 0.003, -0.0005))
LENSES = pytest.mark.parametrize("lens", [PLUMB_BOB, RATIONAL, FISHEYE], ids=lambda d: d.model)


def grid(limit, count=21):
    x, y = np.meshgrid(np.linspace(-limit, limit, count), np.linspace(-limit, limit, count))
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def opencv_distorted(lens, points):
    points3 = np.column_stack([points, np.ones(len(points))])[:, None]
    coeffs, zero = np.array(lens.coeffs), np.zeros(3)
    if lens.model == "equidistant":
        result, _ = cv2.fisheye.projectPoints(points3, zero, zero, np.eye(3), coeffs)
    else:
        result, _ = cv2.projectPoints(points3, zero, zero, np.eye(3), coeffs)
    return result[:, 0]


def make_camera(lens, focal=70.0):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = optical_rotation(0.0, 0.1), (1.5, 0.0, 1.6)
    return CameraModel("front", 160, 100, focal, focal, 80.0, 50.0, pose, lens)


def make_scene():
    boxes = [
        [1, 1, 10, 1, 0.8, 4.6, 1.9, 1.6, 0.3, 0, 0],
        [2, 2, 3.0, 2.5, 1.5, 8, 2.5, 3.0, 0, 0, 0],
        [3, 6, 8, -3, 0.9, 0.6, 0.6, 1.8, 0, 0, 0],
    ]
    area = [[-2, -6, 0], [60, -6, 0], [60, 6, 0], [-2, 6, 0]]
    lines = [(13, [[0, -5, 0], [20, -5, 0], [50, -8, 0]]), (14, [[6, -4, 0], [6, 4, 0]])]
    return Scene(
        ego=Pose(0, 0, 0, 0),
        boxes=Boxes.from_rows(boxes),
        polylines=Shapes.from_list(lines),
        polygons=Shapes.from_list([(23, area)]),
        lights=Lights.empty(),
    )


@LENSES
def test_distortion_equals_opencv(lens):
    points = grid(0.8)
    np.testing.assert_allclose(distort(lens, points), opencv_distorted(lens, points), atol=1e-12)


@LENSES
def test_undistortion_inverts_opencv(lens):
    points = grid(0.6)
    np.testing.assert_allclose(undistort(lens, opencv_distorted(lens, points)), points, atol=1e-7)


def test_four_coefficients_of_plumb_bob_mean_that_the_fifth_is_zero():
    four = Distortion("plumb_bob", PLUMB_BOB.coeffs[:4])
    five = Distortion("plumb_bob", (*PLUMB_BOB.coeffs[:4], 0.0))
    np.testing.assert_array_equal(distort(four, grid(0.5)), distort(five, grid(0.5)))


def test_fisheye_reaches_rays_almost_at_right_angles_to_the_axis():
    ideal = Distortion("equidistant", (0.0, 0.0, 0.0, 0.0))
    # In the ideal fisheye the distorted radius is the angle itself.
    (ray,) = undistort(ideal, np.array([[1.5, 0.0]]))
    np.testing.assert_allclose(ray, [np.tan(1.5), 0.0], rtol=1e-9, atol=1e-9)
    assert np.isnan(undistort(ideal, np.array([[1.6, 0.0]]))).all()


def test_outside_the_invertible_range_there_is_no_ray():
    # r (1 - r^2 / 3) grows up to r = 1, where it is 2 / 3; no direction maps farther out.
    lens = Distortion("plumb_bob", (-1 / 3, 0.0, 0.0, 0.0))
    rays = undistort(lens, np.array([[0.66, 0.0], [0.67, 0.0], [0.0, -5.0]]))
    assert np.isfinite(rays[0]).all()
    assert rays[0, 0] < 1.0
    assert np.isnan(rays[1:]).all()


@pytest.mark.parametrize("tiny", [1e-20, 1e-50, 1e-320])
@pytest.mark.parametrize("model", ["plumb_bob", "equidistant"])
def test_a_vanishing_coefficient_does_not_move_the_invertible_range(model, tiny):
    points = np.array([[0.5, 0.0], [0.66, 0.0], [0.67, 0.0]])
    expected = undistort(Distortion(model, (-1 / 3, 0.0, 0.0, 0.0)), points)
    rays = undistort(Distortion(model, (-1 / 3, tiny, tiny, tiny)), points)
    np.testing.assert_allclose(rays, expected, atol=1e-9)


def test_what_lies_outside_the_invertible_range_is_not_drawn():
    camera = make_camera(Distortion("plumb_bob", (-1 / 3, 0.0, 0.0, 0.0)))
    image = render(build_geometry(make_scene(), load_style("semantic")), camera, ("class",))
    outside = np.isnan(lens_grid(camera).rays).any(axis=-1)
    assert outside.any()
    assert not image["class"][outside].any()
    assert image["class"][~outside].any()


def verified_rays(camera):
    """Rays of all pixels, each proven by projecting it back through OpenCV."""
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = lens_grid(camera).rays
    assert np.isfinite(rays).all()
    distorted = opencv_distorted(camera.distortion, rays.reshape(-1, 2)).reshape(rays.shape)
    focal_px, center_px = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    pixels = np.stack([x, y], axis=-1)
    np.testing.assert_allclose(distorted * focal_px + center_px, pixels, atol=1e-4)
    return np.dstack([rays, np.ones(x.shape)])


@pytest.mark.parametrize(
    ("lens", "focal"),
    [(PLUMB_BOB, 140.0), (RATIONAL, 120.0), (FISHEYE, 70.0)],
    ids=["plumb_bob", "rational_polynomial", "equidistant"],
)
def test_a_raster_through_a_lens_agrees_with_the_reference(lens, focal):
    camera, style, scene = make_camera(lens, focal), exact_style(), make_scene()
    images = render(build_geometry(scene, style), camera, ("class", "instance", "depth"))
    codes, ids, depth, _ = reference.render_reference(scene, style, camera, verified_rays(camera))
    wrong = (images["class"] != codes) | (images["instance"] != ids)
    assert wrong.mean() < 2e-3
    # What is wrong lies within a pixel of an edge: all eight neighbours alike means no edge there.
    window = np.ones((3, 3), np.uint8)
    keys = (codes.astype(np.float32), ids.astype(np.float32))
    inside = [cv2.dilate(key, window) == cv2.erode(key, window) for key in keys]
    assert not (wrong & inside[0] & inside[1]).any()
    both = np.isfinite(depth) & np.isfinite(images["depth"]) & (images["class"] == codes)
    assert (np.abs(images["depth"][both] / depth[both] - 1) > 1e-3).sum() <= 4
    assert len(np.unique(codes)) >= 6


@pytest.mark.parametrize("style", ["rap", "semantic"])
def test_a_fisheye_of_more_than_half_a_circle_agrees_with_the_reference(style):
    camera = make_camera(Distortion("equidistant", (0.0, 0.0, 0.0, 0.0)), focal=40.0)
    rays = lens_grid(camera).rays.astype(float)
    # In an ideal fisheye the distance from the centre is the angle to the axis.
    x, y = np.meshgrid(np.arange(160) - camera.cx, np.arange(100) - camera.cy)
    angle = np.hypot(x, y) / camera.fx
    np.testing.assert_array_equal(np.isnan(rays[..., 0]), angle > np.pi / 2 - 1e-3)
    look = exact_style(style)
    images = render(build_geometry(make_scene(), look), camera, ("class", "instance", "depth"))
    rays = np.dstack([rays, np.ones(angle.shape)])
    codes, ids, depth, _ = reference.render_reference(make_scene(), look, camera, rays)
    wrong = (images["class"] != codes) | (images["instance"] != ids)
    assert wrong.mean() < 4e-3
    assert not images["class"][np.isnan(rays[..., 0])].any()
    assert np.isinf(images["depth"][np.isnan(rays[..., 0])]).all()
    both = np.isfinite(depth) & np.isfinite(images["depth"]) & ~wrong
    assert (np.abs(images["depth"][both] / depth[both] - 1) > 1e-3).sum() <= 4


def assert_right_off_edges(scene, style, camera):
    """Edges may be off by one pixel: what is wrong must have neighbours that are not alike.

    Pixels at the image border lack neighbours. A sliver too narrow for the rays of the reference
    may show as a few pixels in a row, one wide.
    """
    rays = np.dstack([lens_grid(camera).rays.astype(float), np.ones((camera.height, camera.width))])
    codes, ids, _, _ = reference.render_reference(scene, style, camera, rays)
    images = render(build_geometry(scene, style), camera, ("class", "instance"))
    wrong = (images["class"] != codes) | (images["instance"] != ids)
    window = np.ones((3, 3), np.uint8)
    keys = (codes.astype(np.float32), ids.astype(np.float32))
    inside = [cv2.dilate(key, window) == cv2.erode(key, window) for key in keys]
    off = (wrong & inside[0] & inside[1])[1:-1, 1:-1].astype(np.uint8)
    assert off.sum() <= 4
    assert not cv2.erode(off, np.ones((2, 2), np.uint8), borderValue=0).any()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    lens=st.sampled_from([(PLUMB_BOB, 110.0), (RATIONAL, 60.0), (FISHEYE, 45.0), (FISHEYE, 70.0)]),
)
def test_boxes_close_to_any_lens_are_drawn_right_far_off_the_axis(seed, lens):
    rng = np.random.default_rng(seed)
    boxes = [
        [i + 1, 1 + i, *rng.uniform([0.5, -4, 0.2], [6, 4, 3]), *rng.uniform(0.3, 4.0, 3),
         rng.uniform(-3, 3), 0, 0]
        for i in range(5)
    ]  # fmt: skip
    assert_right_off_edges(
        replace(make_scene(), boxes=Boxes.from_rows(boxes)), exact_style(), make_camera(*lens)
    )


def test_boxes_that_intersect_beside_a_fisheye_are_tested_for_depth():
    # They lie at 80 degrees, where a pinhole of the same focal length would have left the image.
    boxes = [
        [1, 1, 2.4, 5.0, 1.6, 3.0, 2.0, 2.0, 0.3, 0, 0],
        [2, 2, 2.2, 5.2, 1.7, 2.0, 3.0, 2.0, -0.4, 0, 0],
    ]
    scene = replace(make_scene(), boxes=Boxes.from_rows(boxes))
    camera = make_camera(Distortion("equidistant", (0.0, 0.0, 0.0, 0.0)), focal=50.0)
    look = load_style("rap")
    rays = np.dstack([lens_grid(camera).rays.astype(float), np.ones((100, 160))])
    ids = render(build_geometry(scene, look), camera, ("instance",))["instance"]
    _, expected, _, _ = reference.render_reference(scene, look, camera, rays)
    assert set(np.unique(expected)) == {0, 1, 2}
    assert (ids != expected).mean() < 2e-3


def test_a_far_line_keeps_its_minimum_width_through_a_lens():
    line = [(13, [[40.0, -60.0, 0.0], [40.0, 60.0, 0.0]])]
    scene = replace(make_scene(), boxes=Boxes.empty(), polylines=Shapes.from_list(line))
    camera, style = make_camera(PLUMB_BOB, 140.0), load_style("rap")
    codes = render(build_geometry(scene, style), camera, ("class",))["class"]
    assert (codes == 13).any(axis=0).all()


def test_a_lens_with_zero_coefficients_draws_the_pinhole_image():
    # Without minimum widths: a lens cuts long lines, and widens just the pieces that are too thin.
    camera, style = make_camera(None), exact_style()
    geometry = build_geometry(make_scene(), style)
    pinhole = render(geometry, camera, ("class",))["class"]
    lens = Distortion("plumb_bob", (0.0, 0.0, 0.0, 0.0, 0.0))
    through_lens = render(geometry, replace(camera, distortion=lens), ("class",))["class"]
    assert (pinhole != through_lens).mean() < 2e-3


def test_rays_are_asked_for_only_of_cameras_with_a_lens():
    with pytest.raises(ValueError, match="camera 'front' has no lens model"):
        lens_grid(make_camera(None))
