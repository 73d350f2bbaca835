"""Shapes, shadows and paint of the camera simulator against independent geometry."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import shapely
from scipy.spatial import ConvexHull

from rap_evaluation.photo import objects as shapes_of
from rap_evaluation.photo import scenery as kinds_of
from rap_evaluation.photo import shading, shadows, tracing
from rap_evaluation.photo.objects import BOX, ELLIPSOID, FRUSTUM, Objects, placed_objects
from rap_evaluation.photo.paint import BAR_M, DASH_M, GAP_M, bars, dashes
from rap_evaluation.photo.samples import Samples, Sight
from rap_evaluation.photo.scenery import NO_SCENERY, TREE, Scenery
from rap_evaluation.photo.shadows import openness, shadow_grid, sunlit
from rap_evaluation.photo.tracing import trace
from rap_raster.frames import FloatArray
from rap_raster.projection import FAR_M
from rap_raster.scene import Boxes, Lights, ObjectClass

NO_RAYS = np.empty((0, 0, 2), np.float32)


def town_square() -> Objects:
    """Some of everything, turned every way."""
    rng = np.random.default_rng(4)
    rows = [
        [k + 1, code, *rng.uniform(-20, 20, 2), 1.0, 4.0, 1.8, 2.0, rng.uniform(0, 6), 0, 0]
        for k, code in enumerate([*ObjectClass] * 3)
    ]
    trees = Scenery(
        np.column_stack([rng.uniform(-20, 20, (6, 2)), np.full(6, 3.5)]),
        np.tile([4.0, 4.0, 9.0], (6, 1)),
        rng.uniform(0, 6, 6),
        np.full(6, TREE, np.uint8),
        np.arange(6, dtype=np.int32),
    )
    return placed_objects(Boxes.from_rows(rows), Lights.empty(), trees)


def in_box(box: FloatArray, points_m: FloatArray) -> FloatArray:
    """Points in the axes of a box, in half sizes."""
    offset = points_m - box[:3]
    along = offset[..., 0] * box[6] + offset[..., 1] * box[7]
    across = offset[..., 1] * box[6] - offset[..., 0] * box[7]
    return np.stack([along, across, offset[..., 2]], axis=-1) / box[3:6]


def corners(part: FloatArray) -> FloatArray:
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    local = signs * part[3:6]
    x = part[0] + part[6] * local[:, 0] - part[7] * local[:, 1]
    y = part[1] + part[7] * local[:, 0] + part[6] * local[:, 1]
    return np.column_stack([x, y, part[2] + local[:, 2]])


def test_every_part_lies_within_the_box_of_its_object():
    square = town_square()
    assert set(square.shapes) == {BOX, FRUSTUM, ELLIPSOID}
    for part, owner in zip(square.parts, square.owners, strict=True):
        assert np.abs(in_box(square.boxes[owner], corners(part))).max() < 1.0 + 1e-9


def test_a_car_reaches_all_six_sides_of_its_box():
    for car_id in range(1, 10):
        row = [car_id, 1, 5.0, 2.0, 0.8, 4.5, 1.8, 1.5, 0.7, 0, 0]
        car = placed_objects(Boxes.from_rows([row]), Lights.empty(), NO_SCENERY)
        reached = np.concatenate([in_box(car.boxes[0], corners(part)) for part in car.parts])
        assert np.allclose(reached.max(axis=0), 1.0)
        assert np.allclose(reached.min(axis=0), -1.0)


def single_parts(parts: FloatArray, codes: list[int], shapes: list[int]) -> Objects:
    """Objects of one part each."""
    return Objects(
        parts[:, :8].copy(),
        np.array(codes, np.uint8),
        np.arange(1, len(parts) + 1, dtype=np.int32),
        np.zeros(len(parts), np.uint8),
        parts,
        np.array(shapes, np.uint8),
        np.arange(len(parts), dtype=np.int32),
    )


def traced_ahead(objects: Objects) -> tuple[Sight, FloatArray]:
    """What a camera at the origin sees along x, and its rays in the map frame."""
    map_from_camera = np.array(
        [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0, 0, 0, 1.0]]
    )
    sight = Sight(
        (80.0, 80.0, 47.5, 31.5),
        NO_RAYS,
        map_from_camera,
        np.zeros((64, 96), np.uint8),
        np.zeros((64, 96), np.int32),
        np.full((64, 96), np.inf, np.float32),
    )
    trace(sight, objects)
    u, v = np.meshgrid((np.arange(96) - 47.5) / 80.0, (np.arange(64) - 31.5) / 80.0)
    return sight, np.stack([np.ones_like(u), -u, -v], axis=-1)


def test_frustums_and_ellipsoids_are_traced_where_their_surfaces_are():
    parts = np.array(
        [
            [8.0, 1.5, 0.2, 2.0, 0.9, 0.5, np.cos(0.5), np.sin(0.5), 0.6, 0.3, 0.2],
            [9.0, -2.5, 0.0, 0.5, 1.5, 1.2, np.cos(2.0), np.sin(2.0), 0.0, 0.0, 0.0],
        ]
    )
    objects = single_parts(parts, [1, 6], [FRUSTUM, ELLIPSOID])
    sight, ways = traced_ahead(objects)
    for k, expected in enumerate((_hull_depth(parts[0], ways), _sphere_depth(parts[1], ways))):
        seen = sight.indices == k + 1
        assert seen.sum() > 200
        assert (seen == np.isfinite(expected)).all()
        assert np.abs(sight.depths_m[seen] - expected[seen]).max() < 1e-4
        assert (sight.classes[seen] == objects.codes[k]).all()


def test_a_car_alongside_is_drawn_although_its_sphere_holds_the_camera():
    cabin = np.array([[1.5, 1.6, 0.0, 2.5, 0.7, 0.5, 1.0, 0.0, 0.6, 0.3, 0.2]])
    assert np.linalg.norm(cabin[0, :3]) < np.linalg.norm(cabin[0, 3:6])
    sight, ways = traced_ahead(single_parts(cabin, [1], [FRUSTUM]))
    expected = _hull_depth(cabin[0], ways)
    assert ((sight.indices == 1) == np.isfinite(expected)).all()
    assert (sight.indices == 1).sum() > 200


def test_cars_end_at_the_range_of_the_rasterizer_and_trees_do_not():
    sizes = [20.0, 20.0, 20.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    parts = np.array(
        [[FAR_M - 25.0, 45.0, 0.0, *sizes], [FAR_M + 25.0, 0, 0, *sizes], [145.0, -45.0, 0, *sizes]]
    )
    sight, _ = traced_ahead(single_parts(parts, [1, 1, TREE], [FRUSTUM, FRUSTUM, ELLIPSOID]))
    assert [bool((sight.indices == k).any()) for k in (1, 2, 3)] == [True, False, True]


def test_the_sky_is_hidden_beside_a_car_but_not_on_the_bridge_above_it():
    car = Boxes.from_rows([[1, 1, 0.0, 0.0, 0.8, 4.5, 1.8, 1.6, 0.0, 0, 0]])
    objects = placed_objects(car, Lights.empty(), NO_SCENERY)
    points = np.array([[0.0, 1.1, 0.0], [0.0, 1.1, 6.0], [0.0, 1.1, -6.0], [0.0, 9.0, 0.0]])
    grid = shadow_grid(objects.boxes, (0.0, 0.0, 1.0), (0.0, 0.0, 0.0), margin_m=shadows.CONTACT_M)
    shares = openness(_ground(points), objects, grid)
    assert shares[0] < 0.8
    assert shares[1:].tolist() == [1.0, 1.0, 1.0]


def _ground(points: FloatArray) -> Samples:
    """Samples of bare ground, one per pixel."""
    count = len(points)
    return Samples(
        np.arange(count, dtype=np.int32),
        np.ones(count, np.float32),
        np.zeros(count, np.uint8),
        np.full(count, -1, np.int32),
        np.tile([1.0, 0.0, 0.0], (count, 1)),
        points,
        np.ones(count),
    )


def _hull_depth(part: FloatArray, ways: FloatArray) -> FloatArray:
    """Depth of a frustum along rays from the origin, by the planes of its corners' hull."""
    front, rear, side = part[8:11]
    low = [(-1, -1, -1), (-1, 1, -1), (1, -1, -1), (1, 1, -1)]
    high = [(x, y, 1) for x in (rear - 1, 1 - front) for y in (side - 1, 1 - side)]
    local = np.array([*low, *high]) * part[3:6]
    x = part[0] + part[6] * local[:, 0] - part[7] * local[:, 1]
    y = part[1] + part[7] * local[:, 0] + part[6] * local[:, 1]
    planes = ConvexHull(np.column_stack([x, y, part[2] + local[:, 2]])).equations
    slope, height = ways @ planes[:, :3].T, -planes[:, 3]
    t = height / slope
    enter = np.where(slope < 0, t, -np.inf).max(axis=-1)
    leave = np.where(slope > 0, t, np.inf).min(axis=-1)
    return np.where(enter < leave, enter, np.inf)


def _sphere_depth(part: FloatArray, ways: FloatArray) -> FloatArray:
    """Depth of an ellipsoid along rays from the origin, by looking for its surface step by step."""
    t = np.linspace(4.0, 14.0, 401)
    inside = (in_box(part, ways[..., None, :] * t[:, None]) ** 2).sum(axis=-1) < 1.0
    first = inside.argmax(axis=-1)
    near, far = t[np.maximum(first - 1, 0)], t[first]
    for _ in range(20):
        middle = 0.5 * (near + far)
        hit = (in_box(part, ways * middle[..., None]) ** 2).sum(axis=-1) < 1.0
        near, far = np.where(hit, near, middle), np.where(hit, middle, far)
    return np.where(inside.any(axis=-1), far, np.inf)


def test_the_sun_is_hidden_where_a_part_is_on_the_way_to_it():
    square = town_square()
    sun = (0.48, -0.36, 0.8)
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.uniform(-30, 30, (500, 2)), np.zeros(500)])
    samples = _ground(points)
    grid = shadow_grid(square.parts, sun, (0.0, 0.0, 0.0), margin_m=shadows.PENUMBRA_M)
    lit = sunlit(samples, square, grid, sun) != 0
    # The edges are blurred on purpose: a point counts if all points around it agree.
    around = [[0, 0], *(0.12 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]))]
    shaded = np.stack([_shaded(points + np.append(shift, 0.0), square, sun) for shift in around])
    clear = (shaded == shaded[0]).all(axis=0)
    assert 30 < (clear & shaded[0]).sum() < 300
    assert (lit[clear] == ~shaded[0][clear]).mean() > 0.99


def _shaded(points: FloatArray, objects: Objects, sun: tuple[float, float, float]) -> np.ndarray:
    """Walks towards the sun and looks if that leads through something."""
    way = points[:, None] + np.arange(0.01, 14.0, 0.1)[:, None] * np.array(sun)
    hidden = np.zeros(len(points), bool)
    for part, shape in zip(objects.parts, objects.shapes, strict=True):
        local = in_box(part, way)
        inside = (local**2).sum(-1) < 1.0 if shape == ELLIPSOID else (np.abs(local) < 1).all(-1)
        hidden |= inside.any(axis=1)
    return hidden


def test_dashes_follow_a_line_around_a_bend():
    bend = np.array([[0.0, 0.0, 1.0], [10.0, 0.0, 1.0], [10.0, 12.0, 2.0], [10.0, 25.0, 2.0]])
    line = shapely.LineString(bend[:, :2])
    pieces = [shapely.LineString(piece[:, :2]) for piece in dashes(bend)]
    assert all(line.buffer(1e-6).covers(piece) for piece in pieces)
    assert sum(piece.length for piece in pieces) / line.length == pytest.approx(
        DASH_M / (DASH_M + GAP_M), abs=0.05
    )
    assert min(a.distance(b) for a, b in pairwise(pieces)) > 0.7 * GAP_M


@pytest.mark.parametrize("turn_rad", [0.0, 0.6, 1.9, -2.5])
def test_bars_of_a_crosswalk_point_along_the_traffic(turn_rad):
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    local = np.array([[-6.0, -1.5], [6.0, -1.5], [6.0, 1.5], [-6.0, 1.5]])
    xy = local @ np.array([[cos, sin], [-sin, cos]]) + [100.0, -50.0]
    ring = np.column_stack([xy, 2.0 + 0.1 * local[:, 0]])
    pieces = bars(ring)
    assert len(pieces) == 11
    area = shapely.Polygon(xy)
    for piece in pieces:
        bar = shapely.Polygon(piece[:, :2])
        assert bar.area == pytest.approx(BAR_M * 3.0, rel=1e-3)
        assert bar.difference(area).area < 1e-3
        sides = np.diff(piece[[0, 1, 2], :2], axis=0)
        long = sides[np.linalg.norm(sides, axis=1).argmax()]
        # The traffic crosses the crosswalk at right angles to its longer side.
        assert abs(long @ [cos, sin]) < 1e-3 * np.linalg.norm(long)
        height = 2.0 + 0.1 * (piece[:, :2] - [100.0, -50.0]) @ [cos, sin]
        assert np.allclose(piece[:, 2], height, atol=1e-4)


def test_kernels_know_the_constants_of_other_modules():
    # They are copies, since numba does not notice when another file changes.
    copies = {
        "_BUILDING": kinds_of.BUILDING,
        "_TREE": kinds_of.TREE,
        "_POST": kinds_of.POST,
        "_FRUSTUM": shapes_of.FRUSTUM,
        "_ELLIPSOID": shapes_of.ELLIPSOID,
        "_BOX": shapes_of.BOX,
    }
    for module in (shading, shadows, tracing):
        for name in copies.keys() & vars(module).keys():
            if isinstance(vars(module)[name], int):
                assert vars(module)[name] == copies[name], f"{module.__name__}.{name}"
