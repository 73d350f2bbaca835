"""The fast rasterizer against the slow one of `reference_rasterizer.py`, and analytic cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_rasterizer as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from raster_scenes import (
    EGO,
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

from rap_raster.camera import Distortion, project_points
from rap_raster.frames import Pose
from rap_raster.rasterizer import CHANNELS, build_geometry, render
from rap_raster.scene import LineKind, PolygonKind
from rap_raster.styles import load_style


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("yaw", [0.0, 1.2])
def test_random_scenes_agree_with_the_reference(seed, yaw):
    images = assert_same(random_scene(seed), make_camera(yaw=yaw), exact_style())
    # The comparison must not be one of empty images.
    assert len(np.unique(images["class"])) > 3


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    yaw=st.floats(-np.pi, np.pi),
    pitch=st.floats(-0.4, 0.9),
    focal=st.floats(25.0, 400.0),
    height=st.floats(0.5, 12.0),
    rise=st.sampled_from([0.0, 0.0, 0.04, -0.06]),
    bend=st.sampled_from([0.0, 0.0, 1.5]),
    style=st.sampled_from(["rap", "motion"]),
)
def test_any_scene_from_any_camera_agrees_with_the_reference(  # noqa: PLR0917 - hypothesis
    seed, yaw, pitch, focal, height, rise, bend, style
):
    scene = random_scene(seed)
    if rise or bend:
        scene = sloping(scene, rise, bend)
    camera = make_camera(yaw=yaw, pitch=pitch, focal=focal, at=(1.5, 0.3, height)).resized(96, 54)
    assert_same(scene, camera, exact_style(style), allowed=3)


@pytest.mark.parametrize("style", ["rap", "semantic"])
@pytest.mark.parametrize("seed", range(6))
def test_painting_in_order_and_testing_for_depth_give_the_same_image(seed, style):
    # Ground that is not exactly level makes every pixel be tested for depth.
    level = random_scene(seed)
    above = replace(level.boxes, centers_m=level.boxes.centers_m + np.array([0.0, 0.0, 5.0]))
    level = replace(level, boxes=above)
    points = level.polylines.points_m.copy()
    points[:, 2] += 1e-9 * points[:, 0]
    tested = replace(level, polylines=replace(level.polylines, points_m=points))
    camera, look = make_camera(yaw=0.3, pitch=-0.05), load_style(style)
    painted = render(build_geometry(level, look), camera, tuple(CHANNELS))
    compared = render(build_geometry(tested, look), camera, tuple(CHANNELS))
    assert len(np.unique(painted["instance"])) > 5
    for name in ("class", "instance"):
        assert (painted[name] != compared[name]).sum() <= 2


@pytest.mark.parametrize(
    ("lines", "areas"),
    [
        ([], [(20, [[5, 5, 0], [10, 5, 0], [15, 5, 0]])]),  # an outline that turns back on itself
        ([(13, [[6, -2, 0], [15, -2, 0], [6, -1.9, 0], [15, 3, 0]])], []),
        ([(10, [[6, -2, 0], [9, -2, 0], [9.05, -1.9, 0], [6, 2, 0]])], []),
    ],
)
def test_sharp_bends_and_outlines_without_area_agree_with_the_reference(lines, areas):
    camera = make_camera(pitch=0.6, focal=120.0, at=(0.0, 0.0, 9.0))
    images = assert_same(make_scene(lines=lines, areas=areas), camera, exact_style("rap"))
    assert (images["class"] > 0).sum() > 20


@pytest.mark.parametrize("seed", range(3))
def test_an_ego_that_pitches_and_rolls_agrees_with_the_reference(seed):
    scene = random_scene(seed)
    tilted = replace(scene, ego=Pose(0.0, 0.0, 0.0, 0.2, pitch_rad=-0.06, roll_rad=0.09))
    images = assert_same(tilted, make_camera(), exact_style())
    level = render(build_geometry(scene, exact_style()), make_camera(), ("class",))["class"]
    assert (images["class"] != level).sum() > 500


def test_on_a_grade_a_car_ahead_is_seen_where_it_is_seen_on_level_ground():
    """Its box stays upright, as all boxes; without pitch it is drawn too high."""
    grade_rad = np.arctan(0.06)
    up = replace(
        make_scene([car(7, 40.0 * np.cos(grade_rad), 0.0, z=0.75 + 40.0 * np.sin(grade_rad))]),
        ego=Pose(0.0, 0.0, 0.0, 0.0, pitch_rad=-grade_rad),
    )
    rows = []
    for scene in (make_scene([car(7, 40.0, 0.0, z=0.75)]), up, replace(up, ego=EGO)):
        seen = render(build_geometry(scene, load_style("rap")), make_camera(), ("instance",))
        rows.append(np.flatnonzero((seen["instance"] == 7).any(axis=1)).mean())
    assert abs(rows[1] - rows[0]) <= 1.0
    assert rows[2] < rows[0] - 4.0


def test_the_comparison_notices_a_shift_of_one_pixel():
    scene, style, camera = random_scene(0), exact_style(), make_camera()
    shifted = replace(camera, cx=camera.cx + 1)
    codes, _, _, _ = reference.render_reference(scene, style, shifted)
    ours = render(build_geometry(scene, style), camera, ("class",))["class"]
    assert (codes != ours).sum() > 100


@pytest.mark.parametrize("name", HARD_CASES)
def test_hard_cases_agree_with_the_reference(name):
    assert_same(HARD_CASES[name], make_camera(), exact_style())


def test_a_vehicle_alongside_is_drawn_although_it_crosses_the_near_plane():
    image = render(
        build_geometry(make_scene([car(7, 1.0, 1.3)]), load_style("rap")),
        make_camera(),
        ("instance",),
    )["instance"]
    assert (image == 7).sum() > 100


def test_nothing_is_drawn_of_a_box_that_encloses_the_camera():
    scene = make_scene([car(7, 1.0, 0.0, z=1.0, size=(6.0, 3.0, 3.0))])
    image = render(build_geometry(scene, load_style("rap")), make_camera(), ("class",))["class"]
    assert not image.any()


def test_depth_of_a_facing_box_is_the_distance_to_its_rear_face():
    scene = make_scene([car(3, 20.0, 0.0, z=1.6, size=(4.0, 2.0, 2.0))])
    camera = make_camera(pitch=0.0, at=(0.0, 0.0, 1.6))
    depth = render(build_geometry(scene, load_style("rap")), camera, ("depth",))["depth"]
    seen = np.isfinite(depth)
    np.testing.assert_allclose(depth[seen], 18.0, rtol=1e-6)
    # 2 m at 18 m with a focal length of 80 px: 8.9 px, so 8 or 9 columns.
    assert set(seen.sum(axis=1)) <= {0, 8, 9}


def test_depth_of_level_ground_follows_from_the_camera_height():
    area = [(23, [[-50, -50, 0], [90, -50, 0], [90, 50, 0], [-50, 50, 0]])]
    camera = make_camera(pitch=0.0, at=(0.0, 0.0, 1.6))
    geometry = build_geometry(make_scene(areas=area), load_style("semantic"))
    depth = render(geometry, camera, ("depth",))["depth"]
    row = 80
    np.testing.assert_allclose(depth[row], 1.6 * camera.fy / (row - camera.cy), rtol=1e-5)


def test_nothing_beyond_the_far_limit_is_drawn_in_any_channel():
    lines = [(10, [[100.0, 0, 0], [300.0, 0, 0]])]
    scene = make_scene([car(1, 125.0, 3.0), car(2, 119.0, -3.0)], lines)
    images = render(
        build_geometry(scene, load_style("rap")), make_camera(focal=900.0), tuple(CHANNELS)
    )
    assert 2 in images["instance"]
    assert 1 not in images["instance"]
    assert images["depth"][images["class"] > 0].max() <= 120.0
    assert not images["rgb"][images["class"] == 0].any()


@pytest.mark.parametrize("lens", [None, Distortion("plumb_bob", (0.0, 0.0, 0.0, 0.0))])
def test_ground_below_other_ground_is_not_drawn_beyond_the_far_limit_either(lens):
    # Ground at 118 m lets later layers win up to 131 m; the lower one lies at 122 m there.
    upper = [[5, -50, 0], [121.4, -50, 0], [121.4, 50, 0], [5, 50, 0]]
    lower = [[90, -50, -0.05], [150, -50, -0.05], [150, 50, -0.05], [90, 50, -0.05]]
    scene = make_scene(areas=[(PolygonKind.DRIVABLE, upper), (PolygonKind.CROSSWALK, lower)])
    camera = replace(make_camera(pitch=0.0, focal=900.0), distortion=lens)
    camera = replace(camera, cy=10.0 - 1.6 / 118.3 * camera.fy)
    images = render(build_geometry(scene, exact_style()), camera, ("class", "depth"))
    assert images["depth"][np.isfinite(images["depth"])].max() <= 120.0
    assert images["class"][10, 80] == PolygonKind.DRIVABLE
    assert images["class"][12, 80] == PolygonKind.CROSSWALK


def test_a_line_of_minimum_width_does_not_hide_the_foot_of_a_box_beyond_it():
    # One pixel is wide as the ground from 75 m to 100 m here, where the line is 0.35 m.
    box, line = car(1, 103.8, 0.0, size=(4.6, 9.0, 1.6)), (13, [[86.5, -9, 0], [86.5, 9, 0]])
    camera = replace(make_camera(pitch=0.0), cy=40.0 - 80.0 * 1.6 / 115.0)
    style = load_style("rap")
    alone = render(build_geometry(make_scene([box]), style), camera, ("instance",))["instance"]
    images = render(build_geometry(make_scene([box], [line]), style), camera, tuple(CHANNELS))
    assert (alone[40] == 1).any()
    np.testing.assert_array_equal(images["instance"], alone)
    assert (images["class"][41] == LineKind.ROAD_BOUNDARY).any()


def test_a_hill_crest_hides_the_road_and_the_lower_part_of_a_car_behind_it():
    road = [(23, [[5, -4, 0], [25, -4, 3], [25, 4, 3], [5, 4, 0]])]
    behind = [(10, [[40, -3, 0], [40, 3, 0]])]
    camera = make_camera()
    hidden = make_scene([car(1, 45, 0)], behind, road)
    shown = make_scene([car(1, 45, 0)], behind)
    style = load_style("semantic")
    assert 10 in render(build_geometry(shown, style), camera, ("class",))["class"]
    images = render(build_geometry(hidden, style), camera, ("class", "instance"))
    assert 10 not in images["class"]
    assert 1 not in images["instance"]


def test_the_image_does_not_depend_on_where_the_map_has_its_origin():
    scene, camera, style = random_scene(3), make_camera(), exact_style()
    there = moved(scene, np.array([5.0e5, 4.2e6, 300.0]), 0.7)
    here_images = render(build_geometry(scene, style), camera, ("class", "depth"))
    there_images = render(build_geometry(there, style), camera, ("class", "depth"))
    # UTM coordinates carry 1e-9 m in float64, so only exact ties may fall to the other side.
    assert (here_images["class"] != there_images["class"]).sum() <= 2


def test_a_box_corner_lands_on_the_pixel_that_the_camera_model_says_at_every_size():
    scene = make_scene([car(1, 12.0, 2.0, z=0.8)])
    corner = np.array([[12.0 - 2.3, 2.0 - 0.95, 1.6]])  # rear right top, an image corner
    geometry = build_geometry(scene, load_style("rap"))
    for size in [(160, 90), (320, 180), (257, 131)]:
        camera = make_camera().resized(*size)
        (pixel,), visible = project_points(camera, corner)
        assert visible.all()
        mask = render(geometry, camera, ("instance",))["instance"] == 1
        rows = np.flatnonzero(mask.any(axis=1))
        assert abs(rows[0] - pixel[1]) <= 1.0
        columns = np.flatnonzero(mask[rows[0] + 1])
        assert np.min(np.abs(columns - pixel[0])) <= 1.0


def test_adjacent_quads_leave_no_gap_and_do_not_overlap():
    # A fan of triangles around a point in view must cover exactly what their union covers.
    angles = np.linspace(0, 2 * np.pi, 8)[:-1]
    ring = np.column_stack([10 + 4 * np.cos(angles), 4 * np.sin(angles), 0 * angles])
    parts = [(20, [ring[i], ring[(i + 1) % 7], [10.1, 0.2, 0]]) for i in range(7)]
    style = exact_style()
    camera = make_camera()
    whole = render(build_geometry(make_scene(areas=[(20, ring)]), style), camera, ("class",))
    split = render(build_geometry(make_scene(areas=parts), style), camera, ("class",))
    np.testing.assert_array_equal(whole["class"], split["class"])


def test_a_far_line_keeps_its_minimum_pixel_width():
    line = [(13, [[60.0, -80.0, 0.0], [60.0, 80.0, 0.0]])]
    camera = make_camera()
    style = load_style("rap")
    wide = render(build_geometry(make_scene(lines=line), style), camera, ("class",))["class"]
    thin = render(build_geometry(make_scene(lines=line), exact_style("rap")), camera, ("class",))
    assert (wide == 13).any(axis=0).all()
    assert (thin["class"] == 13).sum() < (wide == 13).sum()


def test_only_the_channels_asked_for_are_returned_and_out_is_used():
    geometry, camera = build_geometry(random_scene(1), load_style("rap")), make_camera()
    everything = render(geometry, camera, tuple(CHANNELS))
    for name, image in everything.items():
        alone = render(geometry, camera, (name,))
        assert list(alone) == [name]
        np.testing.assert_array_equal(alone[name], image)
    buffer = np.full((90, 160, 3), 7, np.uint8)
    assert render(geometry, camera, ("rgb",), {"rgb": buffer})["rgb"] is buffer
    np.testing.assert_array_equal(buffer, everything["rgb"])


@pytest.mark.parametrize(
    "buffer",
    [
        np.empty((90, 161, 3), np.uint8),
        np.empty((90, 160, 3), np.float32),
        np.empty((90, 320, 3), np.uint8)[:, ::2],
    ],
)
def test_an_output_array_that_does_not_fit_is_refused(buffer):
    geometry = build_geometry(make_scene(), load_style("rap"))
    with pytest.raises(ValueError, match="out\\['rgb'\\]: expected a C-contiguous uint8 array"):
        render(geometry, make_camera(), ("rgb",), {"rgb": buffer})


def test_an_unknown_channel_is_refused_by_name():
    with pytest.raises(ValueError, match="channels: unknown 'normal'"):
        render(build_geometry(make_scene(), load_style("rap")), make_camera(), ("normal",))
