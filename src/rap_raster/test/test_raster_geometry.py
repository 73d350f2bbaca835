"""Geometry of lines, areas and boxes, checked by areas, lengths and even-odd tests."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rap_raster import styles
from rap_raster.camera import CameraModel, optical_rotation
from rap_raster.frames import Pose
from rap_raster.geometry import build_geometry
from rap_raster.rasterizer import render
from rap_raster.scene import Boxes, Lights, Scene, Shapes
from rap_raster.solids import build_solids
from rap_raster.styles import StyleError, load_style, read_style, style_names


def build(lines=(), areas=(), boxes=(), ego=Pose(0, 0, 0, 0), style="semantic"):  # noqa: B008
    scene = Scene(
        ego=ego,
        boxes=Boxes.from_rows(list(boxes)),
        polylines=Shapes.from_list(list(lines)),
        polygons=Shapes.from_list(list(areas)),
        lights=Lights.empty(),
    )
    return build_geometry(scene, load_style(style))


def ground_quads(geometry):
    """(F, 4, 3) corners of the ground's faces, in drawing order."""
    ground = geometry.ground
    return np.stack([ground.x_m, ground.y_m, ground.z_m], axis=1)[ground.faces]


def drawn_codes(geometry):
    """Class codes of the layers that have something to draw, bottom to top."""
    ground = geometry.ground
    return [int(ground.codes[layer]) for layer in dict.fromkeys(ground.layers)]


def twice_areas(quads):
    """Signed areas in xy of convex quads; triangles repeat their last corner."""
    diagonal, other = quads[:, 2, :2] - quads[:, 0, :2], quads[:, 3, :2] - quads[:, 1, :2]
    return diagonal[:, 0] * other[:, 1] - diagonal[:, 1] * other[:, 0]


def ring_area(ring):
    x, y = ring[:, 0], ring[:, 1]
    return 0.5 * abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.5, 20.0), min_size=3, max_size=30),
    st.booleans(),
    st.integers(0, 29),
)
def test_triangles_of_a_concave_polygon_cover_its_area_once(radii, clockwise, start):
    # Star-shaped rings are simple however uneven the radii, and mostly concave.
    angles = np.linspace(0, 2 * np.pi, len(radii) + 1)[:-1]
    ring = np.column_stack([radii * np.cos(angles), radii * np.sin(angles), np.zeros(len(radii))])
    ring = np.roll(ring, start, axis=0)[:: -1 if clockwise else 1]
    quads = ground_quads(build(areas=[(23, ring)]))
    areas = twice_areas(quads)
    # All of one orientation and the right sum: no overlap, no gap.
    assert (areas > 0).all()
    np.testing.assert_allclose(areas.sum() / 2, ring_area(ring), rtol=1e-9)


def test_triangles_of_a_sloping_strip_follow_the_slope():
    x = np.linspace(0, 100, 21)
    z = 5 * np.sin(x / 15)
    strip = np.vstack(
        [np.column_stack([x, x * 0 - 2, z]), np.column_stack([x, x * 0 + 2, z])[::-1]]
    )
    quads = ground_quads(build(areas=[(23, strip)]))
    # Every triangle spans one or two steps, so it cannot cut through the hills.
    assert np.ptp(quads[:, :3, 0], axis=1).max() <= 10.0 + 1e-9
    np.testing.assert_allclose(twice_areas(quads).sum() / 2, 400.0, rtol=1e-9)


def test_a_polygon_that_crosses_itself_still_ends_in_finite_triangles():
    bow_tie = [[0, 0, 0], [4, 4, 0], [4, 0, 0], [0, 4, 0]]
    quads = ground_quads(build(areas=[(23, bow_tie)]))
    assert np.isfinite(quads).all()
    assert len(quads) <= 2


def test_repeated_points_change_nothing():
    line = np.array([[0, 0, 0], [5, 1, 0], [9, 0, 0]], float)
    ring = np.array([[0, 0, 0], [5, 0, 0], [5, 5, 0], [0, 5, 0]], float)
    once = build([(10, line)], [(20, ring)])
    twice = build([(10, np.repeat(line, 2, axis=0))], [(20, np.vstack([ring, ring[:1]]))])
    np.testing.assert_array_equal(ground_quads(once), ground_quads(twice))


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.zeros((1, 3)), np.zeros((5, 3))])
def test_shapes_without_two_distinct_points_make_no_primitive(points):
    ground = build([(10, points)], [(20, points)]).ground
    assert (len(ground.faces), len(ground.patches), len(ground.x_m)) == (0, 0, 0)


def test_a_straight_line_becomes_a_ribbon_of_its_width():
    (quad,) = ground_quads(build([(14, [[2, 3, 1], [2, 13, 1]])]))
    low, high = quad.min(axis=0), quad.max(axis=0)
    np.testing.assert_allclose(high - low, [0.4, 10.0, 0.0], atol=1e-12)


def test_ribbon_quads_share_their_mitre_edges():
    bend = [[0, 0, 0], [10, 0, 0], [14, 3, 0.5], [14, 12, 1]]
    quads = ground_quads(build([(10, bend)]))
    np.testing.assert_array_equal(quads[:-1, 3], quads[1:, 0])
    np.testing.assert_array_equal(quads[:-1, 2], quads[1:, 1])


def test_a_hairpin_does_not_grow_a_spike():
    quads = ground_quads(build([(13, [[0, 0, 0], [10, 0, 0], [0, 0.01, 0]])]))
    assert quads[..., 0].max() < 11.0


def test_every_face_of_a_box_has_its_own_hue_whichever_way_the_box_looks():
    # From 8 m in front, behind, left, right of a box one sees just that face.
    faces = {0.0: "front", np.pi: "rear", np.pi / 2: "left", -np.pi / 2: "right"}
    colors = load_style("rap").box_colors[1]
    for box_yaw in (0.0, 0.7, -2.0):
        for side, name in faces.items():
            angle = box_yaw + side
            box = [4, 1, -8 * np.cos(angle), -8 * np.sin(angle), 1.0, 2, 2, 2, box_yaw, 0, 0]
            pose = np.eye(4)
            pose[:3, :3], pose[2, 3] = optical_rotation(angle + np.pi), 1.0
            camera = CameraModel("c", 9, 9, 100.0, 100.0, 4.0, 4.0, pose)
            (pixel,) = render(build(boxes=[box], style="rap"), camera)["rgb"][4, 4:5]
            expected = np.floor(colors[styles.FACES.index(name)] * (1 - 7 / 120))
            np.testing.assert_allclose(pixel, expected, atol=1)


def test_patches_hold_every_face_once_and_their_spheres_hold_every_corner():
    t = np.linspace(0, 6, 50)
    curve = np.column_stack([30 * np.cos(t), 20 * np.sin(t), t])
    ring = np.column_stack([9 * np.cos(t), 9 * np.sin(t), 0 * t])
    ground = build([(10, curve), (13, curve + 5)], [(20, ring), (23, ring)]).ground
    np.testing.assert_array_equal(ground.patches[1:, 2], ground.patches[:-1, 3])
    assert (ground.patches[0, 2], ground.patches[-1, 3]) == (0, len(ground.faces))
    assert (np.diff(ground.layers.astype(int)) >= 0).all()
    corners = np.stack([ground.x_m, ground.y_m, ground.z_m], axis=1)
    for (first, last, face, end), sphere in zip(ground.patches, ground.spheres_m, strict=True):
        used = ground.faces[face:end]
        assert (used.min(), used.max() + 1) == (first, last)
        distance = np.linalg.norm(corners[first:last] - sphere[:3], axis=1)
        assert distance.max() <= sphere[3] + 1e-9


def test_a_convex_planar_crosswalk_is_one_face_and_a_bent_one_is_two():
    flat = [[0, 0, 0], [4, 0, 1], [4, 8, 1], [0, 8, 0]]
    bent = [[0, 0, 0], [4, 0, 1], [4, 8, 0], [0, 8, 0]]
    assert len(ground_quads(build(areas=[(23, flat)]))) == 1
    assert len(ground_quads(build(areas=[(23, bent)]))) == 2


def test_layers_come_in_the_order_of_the_style():
    lines = [(13, [[0, 0, 0], [1, 0, 0]]), (10, [[0, 0, 0], [1, 0, 0]])]
    areas = [(20, [[0, 0, 0], [1, 0, 0], [1, 1, 0]])]
    geometry = build(lines, areas, style="rap")
    assert drawn_codes(geometry) == [10, 20, 20, 13]  # line; area and its outline; border
    filled = geometry.ground.filled[list(dict.fromkeys(geometry.ground.layers))]
    assert list(filled) == [0, 1, 0, 0]


def test_the_rap_style_leaves_out_what_the_published_look_does_not_draw():
    lines = [(kind, [[0, 0, 0], [1, 0, 0]]) for kind in range(10, 16)]
    areas = [(kind, [[0, 0, 0], [1, 0, 0], [1, 1, 0]]) for kind in range(20, 24)]
    assert set(drawn_codes(build(lines, areas, style="rap"))) == {10, 13, 20, 21}
    assert set(drawn_codes(build(lines, areas, style="semantic"))) == {
        *range(10, 16),
        *range(20, 24),
    }


def test_the_semantic_style_tells_all_classes_states_and_headings_apart():
    style = load_style("semantic")
    ground = [tuple(color) for color in style.ground.colors]
    lights = [tuple(style.light_colors[state, 0]) for state in range(30, 34)]
    sides = [tuple(color) for code in range(1, 10) for color in style.box_colors[code]]
    braking = tuple(style.braking_colors[1, styles.FACES.index("rear")])
    everything = [*ground, *lights, *sides, braking]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize(
    ("code", "speed_mps", "lit"),
    [
        (1, 0.0, True),
        (3, 0.9, True),
        (1, 1.1, False),
        (1, np.nan, False),
        (4, 0.0, False),
        (6, 0.0, False),
    ],
)
def test_brake_lights_are_lit_on_vehicles_that_are_known_to_stand(code, speed_mps, lit):
    """Seen from behind; from before, and in the published style, nothing shows."""
    pose = np.eye(4)
    pose[:3, :3], pose[2, 3] = optical_rotation(0.0), 1.0
    camera = CameraModel("c", 9, 9, 100.0, 100.0, 4.0, 4.0, pose)
    for yaw, style, shows in (
        (0.0, "semantic", lit),
        (np.pi, "semantic", False),
        (0.0, "rap", False),
    ):
        rows = [[1, code, 10, 0, 1, 4, 2, 2, yaw, speed, 0] for speed in (speed_mps, 5.0)]
        one, other = (render(build(boxes=[row], style=style), camera)["rgb"][4, 4] for row in rows)
        assert bool((one != other).any()) == shows


def test_the_motion_style_is_the_semantic_one_with_paler_boxes_at_higher_speed():
    motion, semantic = load_style("motion"), load_style("semantic")
    np.testing.assert_equal(
        asdict(motion),
        {**asdict(semantic), "name": "motion", "speed_tint": asdict(motion.speed_tint)},
    )
    speeds_mps = [0.0, 1.5, 6.0, 14.0, 15.0, 30.0, np.nan]
    rows = [[k + 1, 6, 0, 0, 1, 1, 1, 2, 0.4, 0, speed] for k, speed in enumerate(speeds_mps)]
    boxes, lights = Boxes.from_rows(rows), Lights.empty()
    colors = build_solids(boxes, lights, motion).colors.astype(int)
    plain = build_solids(boxes, lights, semantic).colors
    np.testing.assert_array_equal(colors[[0, 6]], plain[[0, 6]])  # standing, speed unknown
    assert (np.diff(colors[:5], axis=0).sum(axis=2) > 0).all()
    np.testing.assert_array_equal(colors[4], colors[5])
    np.testing.assert_array_equal(colors[4], np.round(0.3 * plain[4] + 0.7 * 255))


def test_yellow_and_unknown_lights_are_green_in_the_rap_style():
    colors = load_style("rap").light_colors
    np.testing.assert_array_equal(colors[31], colors[32])
    np.testing.assert_array_equal(colors[33], colors[32])
    assert (colors[30] != colors[32]).any()


def test_an_unknown_style_is_refused_with_the_known_ones():
    assert style_names() == ["motion", "rap", "semantic"]
    with pytest.raises(StyleError, match=r"'nice', expected one of \['motion', 'rap'"):
        load_style("nice")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width_m: 0.12", "width_m: -1", "ground.0.line.width_m"),
        ("[98, 183, 249]", "[98, 183, 256]", "ground.0.line.color.2"),
        ("kind: crosswalk", "kind: zebra", "unknown kind 'zebra'"),
        ("kind: speed_bump", "kind: crosswalk", "each kind may appear once"),
        ("    front: [247, 37, 133]\n", "", "faces needs exactly"),
        ("fade: none", "fade: maybe", "lights.fade"),
        ("name: rap", "name: rap\nspeed: 3", "speed"),
        ("name: rap", "name: rap\nsupersample: 3", "supersample"),
        ("name: rap", "name: [", "cannot be read"),
    ],
)
def test_a_wrong_style_file_is_refused_with_the_field(tmp_path, old, new, message):
    source = (read_source := style_source("rap")).replace(old, new, 1)
    assert source != read_source
    path = tmp_path / "style.yaml"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(StyleError, match=r"style\.yaml") as error:
        read_style(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def style_source(name):
    return (styles._FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def test_fades_are_the_published_linear_ones():
    # A quad at depth d keeps 1 - d / 120 of its colour, truncated; lights keep all of it.
    pose = np.eye(4)
    pose[:3, :3], pose[2, 3] = optical_rotation(0.0), 1.0
    camera = CameraModel("c", 9, 9, 100.0, 100.0, 4.0, 4.0, pose)
    geometry = build(boxes=[[1, 1, 32, 0, 1, 4, 9, 9, 0, 0, 0]], style="rap")
    (pixel,) = render(geometry, camera)["rgb"][4, 4:5]
    np.testing.assert_array_equal(pixel, np.floor(np.array([76, 201, 240]) * (1 - 30 / 120)))
    scene = Scene(
        ego=Pose(0, 0, 0, 0),
        boxes=Boxes.empty(),
        polylines=Shapes.from_list([]),
        polygons=Shapes.from_list([]),
        lights=replace(
            Lights.empty(),
            states=np.array([30], np.uint8),
            centers_m=np.array([[50.0, 0, 1]]),
            sizes_m=np.array([[1.0, 9, 9]]),
            yaws_rad=np.zeros(1),
        ),
    )
    (pixel,) = render(build_geometry(scene, load_style("rap")), camera)["rgb"][4, 4:5]
    np.testing.assert_array_equal(pixel, [255, 0, 0])


def test_lights_are_seen_from_where_they_shine():
    """A light at the origin that shines north: seen from the north, within 60 degrees."""
    light = Lights(
        np.array([30], np.uint8), np.zeros((1, 3)), np.ones((1, 3)), np.array([0.5 * np.pi])
    )
    for degrees, seen in (
        (90, 1),
        (35, 1),
        (145, 1),
        (25, 0),
        (155, 0),
        (0, 0),
        (180, 0),
        (270, 0),
    ):
        x_m, y_m = 20 * np.cos(np.deg2rad(degrees)), 20 * np.sin(np.deg2rad(degrees))
        assert len(light.shining_at(Pose(x_m, y_m, 0.0, 1.0))) == seen, degrees
