"""The fast rasterizer against the slow one of `reference_rasterizer.py`, and analytic cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_rasterizer as reference

from rap_raster.camera import CameraModel, Distortion, optical_rotation, project_points
from rap_raster.frames import Pose
from rap_raster.rasterizer import CHANNELS, build_geometry, render
from rap_raster.scene import Boxes, Lights, LightState, LineKind, PolygonKind, Scene, Shapes
from rap_raster.styles import load_style

NO_SHAPES = Shapes.from_list([])
EGO = Pose(0.0, 0.0, 0.0, 0.0)


def exact_style(name="semantic"):
    """The reference knows no minimum pixel width, so it is switched off."""
    style = load_style(name)
    return replace(style, ground=replace(style.ground, min_px=0.0 * style.ground.min_px))


def make_camera(*, yaw=0.0, pitch=0.05, focal=80.0, at=(1.5, 0.0, 1.6)):
    width, height = 160, 90
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = optical_rotation(yaw, pitch), at
    center = ((width - 1) / 2 + 0.3, (height - 1) / 2 - 0.2)
    return CameraModel("front", width, height, focal, focal, *center, pose)


def make_scene(boxes=(), lines=(), areas=(), lights=None, ego=EGO):
    return Scene(
        ego=ego,
        boxes=Boxes.from_rows(list(boxes)),
        polylines=Shapes.from_list(list(lines)),
        polygons=Shapes.from_list(list(areas)),
        lights=lights or Lights.empty(),
    )


def car(box_id, x, y, yaw=0.0, *, z=0.8, size=(4.6, 1.9, 1.6), code=1):
    return [box_id, code, x, y, z, *size, yaw, 0.0, 0.0]


def light(x, y, z=1.0, state=LightState.RED, size=(0.5, 0.5, 1.0)):
    return Lights(
        np.array([state], np.uint8), np.array([[x, y, z]]), np.array([size]), np.array([0.3])
    )


def random_scene(seed):
    """Boxes that intersect and cross the near plane, lines, concave areas, lights."""
    rng = np.random.default_rng(seed)
    boxes = [
        car(
            i + 1,
            rng.uniform(8, 60) * rng.choice([-1, 1], p=[0.3, 0.7]),
            rng.uniform(-15, 15),
            rng.uniform(-np.pi, np.pi),
            z=rng.uniform(0.6, 1.2),
            size=rng.uniform(0.5, 8.0, 3),
            code=int(rng.integers(1, 10)),
        )
        for i in range(25)
    ]
    boxes.append(car(90, 1.0, 1.8))  # alongside, crosses the near plane
    boxes.append(car(91, -20.0, 0.0))  # behind
    boxes.append(car(92, 1.5, 0.0, z=1.6, size=(9.0, 9.0, 9.0)))  # encloses the camera
    lines = []
    for code in LineKind:
        turn = np.cumsum(rng.normal(0, 0.1, 20)) + rng.uniform(-np.pi, np.pi)
        step = rng.uniform(2, 6) * np.stack([np.cos(turn), np.sin(turn), np.zeros(20)], axis=1)
        start = np.append(rng.uniform(-20, 20, 2), 0.0)
        lines.append((code, start + np.cumsum(step, axis=0)))
    star = np.linspace(0, 2 * np.pi, 11)[:-1]
    areas = []
    for code in PolygonKind:
        radius = rng.uniform(3, 15, 10)
        ring = np.stack([radius * np.cos(star), radius * np.sin(star), np.zeros(10)], axis=1)
        direction = 1 if rng.random() < 0.5 else -1
        ring += np.array([rng.uniform(-5, 25), rng.uniform(-8, 8), 0.0])
        areas.append((code, ring[::direction]))
    lights = Lights(
        np.array([30, 31, 32, 33], np.uint8),
        np.column_stack([rng.uniform(5, 40, 4), rng.uniform(-6, 6, 4), rng.uniform(1, 5, 4)]),
        np.tile([0.5, 0.5, 1.0], (4, 1)),
        rng.uniform(-3, 3, 4),
    )
    return make_scene(boxes, lines, areas, lights)


def moved(scene, offset, yaw):
    """The same scene elsewhere in the map: everything turned about the origin, then shifted."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])

    def move(points):
        return points @ turn.T + offset

    ego = Pose(*move(np.array([scene.ego.x_m, scene.ego.y_m, scene.ego.z_m])), yaw)
    boxes, lights = scene.boxes, scene.lights
    return Scene(
        ego=ego,
        boxes=replace(boxes, centers_m=move(boxes.centers_m), yaws_rad=boxes.yaws_rad + yaw),
        polylines=replace(scene.polylines, points_m=move(scene.polylines.points_m)),
        polygons=replace(scene.polygons, points_m=move(scene.polygons.points_m)),
        lights=replace(lights, centers_m=move(lights.centers_m), yaws_rad=lights.yaws_rad + yaw),
    )


def assert_same(scene, camera, style, allowed=2):
    """Compares all channels; only ties of a pixel centre with an edge may differ."""
    images = render(build_geometry(scene, style), camera, tuple(CHANNELS))
    codes, ids, depth, rgb = reference.render_reference(scene, style, camera)
    wrong = (images["class"] != codes) | (images["instance"] != ids)
    assert wrong.sum() <= allowed
    both = np.isfinite(depth) & np.isfinite(images["depth"]) & ~wrong
    relative = np.abs(images["depth"][both] / depth[both] - 1)
    # The same object can be hit on another face in a tie, hence a count and not a maximum.
    assert (relative > 1e-3).sum() <= allowed
    assert (np.isfinite(depth) != np.isfinite(images["depth"])).sum() <= allowed
    # A mean or a depth in other order of summation may fall to the other side of a whole level.
    assert (np.abs(images["rgb"] - rgb).max(axis=-1) > 1).sum() <= allowed
    return images


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("yaw", [0.0, 1.2])
def test_random_scenes_agree_with_the_reference(seed, yaw):
    images = assert_same(random_scene(seed), make_camera(yaw=yaw), exact_style())
    # The comparison must not be one of empty images.
    assert len(np.unique(images["class"])) > 3


def test_the_comparison_notices_a_shift_of_one_pixel():
    scene, style, camera = random_scene(0), exact_style(), make_camera()
    shifted = replace(camera, cx=camera.cx + 1)
    codes, _, _, _ = reference.render_reference(scene, style, shifted)
    ours = render(build_geometry(scene, style), camera, ("class",))["class"]
    assert (codes != ours).sum() > 100


@pytest.mark.parametrize(
    ("name", "scene"),
    [
        ("box across the near plane", make_scene([car(5, 1.0, 1.3)])),
        ("box behind", make_scene([car(5, -8.0, 0.0)])),
        ("enclosing box", make_scene([car(5, 1.0, 0.0, z=1.0, size=(6, 3, 3)), car(6, 12, 0)])),
        ("intersecting boxes", make_scene([car(5, 10, 0, 0.4), car(6, 11, 0.5, -0.7)])),
        ("light before a car", make_scene([car(5, 15, 0)], lights=light(9.0, 0.2))),
        ("light behind a car", make_scene([car(5, 9, 0)], lights=light(15.0, 0.2))),
        (
            "crosswalk under the ego",
            make_scene(areas=[(20, [[-3, -4, 0], [6, -4, 0], [6, 4, 0], [-3, 4, 0]])]),
        ),
        (
            "cyclic overlap",
            make_scene(
                [
                    car(1, 10, 0.0, 0.0, z=1.2, size=(1, 6, 0.4)),
                    car(2, 9.5, 1.5, 1.2, z=1.3, size=(4, 0.5, 1)),
                    car(3, 9.5, -1.5, -1.2, z=1.1, size=(4, 0.5, 1)),
                ]
            ),
        ),
        (
            "ramp with a line on it",
            make_scene(
                [car(4, 30, 0, z=4.0)],
                lines=[(10, [[5, 1, 0], [40, 1, 4]])],
                areas=[(23, [[5, -4, 0], [40, -4, 4], [40, 4, 4], [5, 4, 0]])],
            ),
        ),
    ],
)
def test_hard_cases_agree_with_the_reference(name, scene):
    assert_same(scene, make_camera(), exact_style())


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
