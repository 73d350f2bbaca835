"""Geometry of lines, areas and boxes, checked by areas, lengths and even-odd tests."""

from __future__ import annotations

from dataclasses import replace

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


def twice_areas(quads):
    """Signed areas in xy of triangles stored as quads."""
    a, b, c = quads[:, 0, :2], quads[:, 1, :2], quads[:, 2, :2]
    return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]


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
    quads = build(areas=[(23, ring)]).quads_m
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
    quads = build(areas=[(23, strip)]).quads_m
    # Every triangle spans one or two steps, so it cannot cut through the hills.
    assert np.ptp(quads[:, :3, 0], axis=1).max() <= 10.0 + 1e-9
    np.testing.assert_allclose(twice_areas(quads).sum() / 2, 400.0, rtol=1e-9)


def test_a_polygon_that_crosses_itself_still_ends_in_finite_triangles():
    bow_tie = [[0, 0, 0], [4, 4, 0], [4, 0, 0], [0, 4, 0]]
    quads = build(areas=[(23, bow_tie)]).quads_m
    assert np.isfinite(quads).all()
    assert len(quads) <= 2


def test_repeated_points_change_nothing():
    line = np.array([[0, 0, 0], [5, 1, 0], [9, 0, 0]], float)
    ring = np.array([[0, 0, 0], [5, 0, 0], [5, 5, 0], [0, 5, 0]], float)
    once = build([(10, line)], [(20, ring)])
    twice = build([(10, np.repeat(line, 2, axis=0))], [(20, np.vstack([ring, ring[:1]]))])
    np.testing.assert_array_equal(once.quads_m, twice.quads_m)


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.zeros((1, 3)), np.zeros((5, 3))])
def test_shapes_without_two_distinct_points_make_no_primitive(points):
    assert len(build([(10, points)], [(20, points)])) == 0


def test_a_straight_line_becomes_a_ribbon_of_its_width():
    geometry = build([(14, [[2, 3, 1], [2, 13, 1]])])
    assert geometry.quads_m.shape == (1, 4, 3)
    low, high = geometry.quads_m[0].min(axis=0), geometry.quads_m[0].max(axis=0)
    np.testing.assert_allclose(high - low, [0.4, 10.0, 0.0], atol=1e-12)


def test_ribbon_quads_share_their_mitre_edges():
    bend = [[0, 0, 0], [10, 0, 0], [14, 3, 0.5], [14, 12, 1]]
    quads = build([(10, bend)]).quads_m
    np.testing.assert_array_equal(quads[:-1, 3], quads[1:, 0])
    np.testing.assert_array_equal(quads[:-1, 2], quads[1:, 1])


def test_a_hairpin_does_not_grow_a_spike():
    quads = build([(13, [[0, 0, 0], [10, 0, 0], [0, 0.01, 0]])]).quads_m
    assert quads[..., 0].max() < 11.0


def test_outward_faces_of_a_box_have_their_vertices_counter_clockwise():
    geometry = build(boxes=[[4, 1, 5, 6, 1, 4, 2, 1.5, 0.7, 0, 0]])
    faces = geometry.quads_m
    normals = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 1])
    outward = faces.mean(axis=1) - [5, 6, 1]
    assert (np.einsum("ij,ij->i", normals, outward) > 0).all()
    # Front first: its centre is half a length ahead.
    np.testing.assert_allclose(
        faces[0].mean(axis=0), [5 + 2 * np.cos(0.7), 6 + 2 * np.sin(0.7), 1], atol=1e-12
    )
    assert set(geometry.instances) == {4}


def test_the_ego_frame_keeps_millimetres_at_utm_coordinates():
    ego = Pose(4.5e5, 5.4e6, 250.0, 1.1)
    ahead = np.array([ego.x_m + 7.123 * np.cos(1.1), ego.y_m + 7.123 * np.sin(1.1), 250.5])
    geometry = build(boxes=[[1, 1, *ahead, 1, 1, 1, 1.1, 0, 0]], ego=ego)
    center = geometry.quads_m.mean(axis=(0, 1))
    np.testing.assert_allclose(center, [7.123, 0, 0.5], atol=1e-6)


def test_layers_come_in_the_order_of_the_style():
    lines = [(13, [[0, 0, 0], [1, 0, 0]]), (10, [[0, 0, 0], [1, 0, 0]])]
    areas = [(20, [[0, 0, 0], [1, 0, 0], [1, 1, 0]])]
    codes = list(build(lines, areas, style="rap").codes)
    assert codes == [10, 20, 20, 20, 20, 13]  # line; one triangle, three outline pieces; border


def test_the_rap_style_leaves_out_what_the_published_look_does_not_draw():
    lines = [(kind, [[0, 0, 0], [1, 0, 0]]) for kind in range(10, 16)]
    areas = [(kind, [[0, 0, 0], [1, 0, 0], [1, 1, 0]]) for kind in range(20, 24)]
    assert set(build(lines, areas, style="rap").codes) == {10, 13, 20, 21}
    assert set(build(lines, areas, style="semantic").codes) == {*range(10, 16), *range(20, 24)}


def test_the_semantic_style_tells_all_classes_states_and_headings_apart():
    style = load_style("semantic")
    ground = [tuple(layer.color) for layer in style.ground]
    lights = [tuple(style.light_colors[state]) for state in range(30, 34)]
    sides = [tuple(color) for code in range(1, 10) for color in style.box_colors[code]]
    everything = ground + lights + sides
    assert len(set(everything)) == len(everything)


def test_yellow_and_unknown_lights_are_green_in_the_rap_style():
    colors = load_style("rap").light_colors
    np.testing.assert_array_equal(colors[31], colors[32])
    np.testing.assert_array_equal(colors[33], colors[32])
    assert tuple(colors[30]) != tuple(colors[32])


def test_an_unknown_style_is_refused_with_the_known_ones():
    assert style_names() == ["rap", "semantic"]
    with pytest.raises(StyleError, match=r"'nice', expected one of \['rap', 'semantic"):
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
