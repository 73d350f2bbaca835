"""What stands beside the road: never on it, and always the same."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import shapely

from rap_evaluation.camera_sim import CameraSimulator
from rap_evaluation.photo.roadside import CELL_M, OUTSIDE_M, Roadside, clearances, roadside
from rap_evaluation.photo.scenery import BUILDING, REACH_M, TREE, Scenery, scenery
from rap_evaluation.traffic.towns import town_path
from rap_raster.camera import CameraModel, optical_rotation
from rap_raster.frames import Pose
from rap_raster.maps.opendrive import load_opendrive
from rap_raster.maps.vector_map import VectorMap, shapes_near
from rap_raster.rasterizer import build_geometry, render
from rap_raster.scene import Boxes, Lights, LineKind, PolygonKind, Scene, Shapes
from rap_raster.styles import load_style

TOWNS = ("Town01", "Town05", "Town10HD")
SIZE_M = 200.0


@cache
def town(name: str) -> VectorMap:
    return load_opendrive(town_path(name))


@cache
def middle(name: str) -> tuple[float, float]:
    """A place on a lane, on the simulator's grid."""
    lane = list(town(name).lanes.values())[25]
    x, y = np.round(lane.centerline_m[0, :2])
    return float(x), float(y)


def around(place: tuple[float, float], shapes: VectorMap) -> tuple[Roadside, Scenery]:
    low = np.array(place) - 0.5 * SIZE_M
    side = roadside(shapes.polylines, shapes.polygons, low - REACH_M, SIZE_M + 2 * REACH_M)
    return side, scenery(side, low, SIZE_M)


def footprints(of: Scenery) -> np.ndarray:
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * 0.5
    local = corners * of.sizes_m[:, None, :2]
    cos, sin = np.cos(of.yaws_rad)[:, None], np.sin(of.yaws_rad)[:, None]
    x = of.centers_m[:, None, 0] + cos * local[..., 0] - sin * local[..., 1]
    y = of.centers_m[:, None, 1] + sin * local[..., 0] + cos * local[..., 1]
    return shapely.polygons(np.stack([x, y], axis=-1))


def by_name(of: Scenery) -> dict[tuple[int, int, int], np.ndarray]:
    """Everything that stands somewhere, by a key that tells two things apart."""
    rows = np.column_stack([of.centers_m, of.sizes_m, of.yaws_rad, of.codes])
    keys = zip(of.codes, of.looks, np.round(of.centers_m[:, 0] * 100), strict=True)
    return {(int(a), int(b), int(c)): row for (a, b, c), row in zip(keys, rows, strict=True)}


@pytest.mark.parametrize("name", TOWNS)
def test_nothing_stands_on_what_is_mapped(name):
    shapes = town(name)
    _, stands = around(middle(name), shapes)
    assert (stands.codes == BUILDING).sum() > 20
    assert (stands.codes == TREE).sum() > 10
    rings = [shapely.Polygon(shapes.polygons[i][:, :2]) for i in range(len(shapes.polygons))]
    lines = [
        shapely.LineString(shapes.polylines[i][:, :2])
        for i in range(len(shapes.polylines))
        if len(shapes.polylines[i]) > 1
    ]
    mapped = shapely.union_all([shapely.make_valid(ring) for ring in rings] + lines)
    shapely.prepare(mapped)
    distance_m = shapely.distance(footprints(stands), mapped)
    # A person can walk between the road and a building; crowns do not hang over the road.
    assert distance_m[stands.codes == BUILDING].min() > 2.0
    assert distance_m.min() > 0.0


@pytest.mark.parametrize("name", TOWNS)
def test_the_same_place_has_the_same_scenery_wherever_one_looks_from(name):
    x, y = middle(name)
    here, there = (
        by_name(around((x, y), town(name))[1]),
        by_name(around((x + 64.0, y - 32.0), town(name))[1]),
    )
    both = here.keys() & there.keys()
    assert len(both) > 0.25 * len(here)
    for key in both:
        assert np.allclose(here[key], there[key], atol=1e-6)
    # What one of them lacks lies outside of its square.
    for one, other, center in ((here, there, (x + 64.0, y - 32.0)), (there, here, (x, y))):
        for key in one.keys() - other.keys():
            assert np.abs(one[key][:2] - center).max() >= 0.5 * SIZE_M


@pytest.mark.parametrize("name", TOWNS)
def test_a_crop_of_the_map_has_the_scenery_of_the_map(name):
    center, radius_m = np.array(middle(name)), 0.5 * SIZE_M + REACH_M
    crop = VectorMap(
        "crop",
        shapes_near(town(name).polylines, center, radius_m),
        shapes_near(town(name).polygons, center, radius_m),
    )
    whole, part = (by_name(around(middle(name), shapes)[1]) for shapes in (town(name), crop))
    assert whole.keys() == part.keys()
    assert all(np.allclose(whole[key], part[key], atol=1e-6) for key in whole)


@pytest.mark.parametrize("name", TOWNS)
def test_buildings_stand_at_the_height_of_a_road_and_face_it(name):
    side, stands = around(middle(name), town(name))
    houses = stands.select(stands.codes == BUILDING)
    front = houses.select(side.clearance_at(houses.centers_m) < 18.0)
    ahead = np.column_stack([np.cos(front.yaws_rad), np.sin(front.yaws_rad)])
    nearer = side.clearance_at(front.centers_m[:, :2] + 4.0 * ahead)
    assert (nearer < side.clearance_at(front.centers_m) - 2.0).mean() > 0.95
    bottoms = houses.centers_m[:, 2] - 0.5 * houses.sizes_m[:, 2]
    assert np.isin(np.round(bottoms + 1.0, 2), np.round(side.heights_m, 2)).all()


@pytest.mark.parametrize("name", TOWNS)
def test_street_trees_do_not_hide_junctions(name):
    shapes, (side, stands) = town(name), around(middle(name), town(name))
    areas = shapes.polygons
    junctions = shapely.union_all(
        [
            shapely.make_valid(shapely.Polygon(areas[i][:, :2]))
            for i in range(len(areas))
            if areas.kinds[i] in {PolygonKind.INTERSECTION, PolygonKind.CROSSWALK}
        ]
    )
    small = side.clearance_at(stands.centers_m) < 5.0
    trees = stands.select((stands.codes == TREE) & small)
    assert len(trees)
    assert shapely.distance(shapely.points(trees.centers_m[:, :2]), junctions).min() > 15.0


def test_the_clearance_is_the_distance_to_the_road():
    ring = np.array([[-20.0, -4.0], [30.0, -6.0], [28.0, 5.0], [-20.0, 4.0]])
    areas = Shapes.from_list([(PolygonKind.DRIVABLE, np.column_stack([ring, np.zeros(4)]))])
    low = np.array([-60.0, -60.0])
    side = roadside(Shapes.from_list([]), areas, low, 120.0)
    points = np.random.default_rng(0).uniform(-55.0, 55.0, (500, 2))
    expected = shapely.distance(shapely.points(points), shapely.Polygon(ring))
    assert np.abs(side.clearance_at(points) - expected).max() < 0.75
    smooth = clearances(points, (-60.0, -60.0), side.clearance_m)
    assert np.abs(smooth - expected).max() < 0.75
    assert clearances(np.array([[500.0, 0.0]]), (-60.0, -60.0), side.clearance_m)[0] == OUTSIDE_M


def test_lines_without_an_area_are_roads_and_routes_are_not():
    line = [[-40.0, 0.0, 0.0], [40.0, 0.0, 0.0]]
    elsewhere = Shapes.from_list(
        [(PolygonKind.DRIVABLE, [[50.0, 50.0, 0.0], [55.0, 50.0, 0.0], [55.0, 55.0, 0.0]])]
    )
    nowhere = Shapes.from_list([])
    low, beside = np.array([-60.0, -60.0]), np.array([[0.0, 1.2]])

    def clearance(kind: LineKind, areas: Shapes) -> float:
        side = roadside(Shapes.from_list([(kind, line)]), areas, low, 120.0)
        return float(side.clearance_at(beside)[0])

    assert clearance(LineKind.LANE_CENTERLINE, elsewhere) == 0.0
    assert clearance(LineKind.ROAD_BOUNDARY, elsewhere) == pytest.approx(1.0, abs=2 * CELL_M)
    assert clearance(LineKind.ROAD_BOUNDARY, nowhere) == 0.0
    assert clearance(LineKind.ROUTE, nowhere) > 50.0


def test_the_raster_of_a_scene_knows_nothing_of_the_scenery():
    shapes, (x, y) = town("Town10HD"), middle("Town10HD")
    boxes = Boxes.from_rows([[3, 1, x + 12.0, y, 0.75, 4.6, 1.9, 1.5, 0.0, 0.0, 0.0]])
    scene = Scene(Pose(x, y, 0.0, 0.0), boxes, shapes.polylines, shapes.polygons, Lights.empty())
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = optical_rotation(0.3), (1.5, 0.0, 1.6)
    camera = CameraModel("front", 128, 64, 70.0, 70.0, 63.5, 31.5, pose)

    def drawn() -> dict[str, np.ndarray]:
        channels = ("rgb", "class", "instance", "depth")
        return render(build_geometry(scene, load_style("semantic")), camera, channels)

    before = drawn()
    CameraSimulator(shapes.polylines, shapes.polygons).image(
        scene.ego, scene.boxes, scene.lights, camera, seed=1
    )
    after = drawn()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert after["class"].max() < BUILDING
