from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import shapely
from expert_scenes import agents_of
from scipy.spatial import cKDTree

from rap_evaluation.expert.pdm_closed import PdmClosed
from rap_evaluation.expert.road_areas import FALLBACK_SPEED_MPS, RoadAreas, route_centerline
from rap_evaluation.metrics.pdm_kernels import NON_DRIVABLE
from rap_evaluation.metrics.pdm_measures import ego_areas
from rap_evaluation.metrics.pdm_scene import STATE_SIZE, Area, PdmScene, RedLights, StateIndex
from rap_evaluation.metrics.pdm_simulator import simulate
from rap_evaluation.traffic.network import densified
from rap_evaluation.traffic.towns import town_path
from rap_raster.maps.opendrive import load_opendrive
from rap_raster.maps.vector_map import Lane, VectorMap
from rap_raster.scene import PolygonKind, Shapes

needs_towns = pytest.mark.skipif(
    importlib.util.find_spec("py123d") is None, reason="the towns are not installed: run make setup"
)
NO_LIGHTS = RedLights(np.zeros(0, np.int64), np.zeros((0, 1), np.bool_))


@pytest.fixture(scope="module", params=["Town01", "Town02", "Town03"])
def town(request):
    return load_opendrive(town_path(request.param))


@needs_towns
def test_lanes_and_drivable_areas_contain_the_centrelines(town):
    areas = RoadAreas(town)
    rng = np.random.default_rng(1)
    for key in rng.choice(sorted(town.lanes), 25):
        line = densified(town.lanes[key].centerline_m[:, :2], 1.0)[2:-2]
        if len(line):
            near = areas.near(line.mean(axis=0), [key])
            rings = _rings(near)
            assert shapely.contains_xy(rings[near.ids.index(key)].buffer(0.05), *line.T).all()
            ground = [
                ring
                for ring, kind in zip(rings, near.kinds, strict=True)
                if kind in (Area.ROADBLOCK, Area.INTERSECTION)
            ]
            union = shapely.union_all(shapely.buffer(ground, 0.05))
            reached = np.abs(line - line.mean(axis=0)).max(axis=1) <= 100.0
            assert shapely.contains_xy(union, *line[reached].T).all()


@needs_towns
def test_crop_is_all_that_touches_the_square(town):
    """Against shapely on everything there is; a box may reach where its polygon does not."""
    areas = RoadAreas(town)
    everything = areas.near(np.zeros(2), [], 1e6)
    rings = _rings(everything)
    center = densified(next(iter(town.lanes.values())).centerline_m[:, :2], 1.0)[3]
    near = areas.near(center, [], 40.0)
    square = shapely.box(*(center - 40.0), *(center + 40.0))
    touching = {
        key
        for key, ring in zip(everything.ids, rings, strict=True)
        if shapely.intersects(shapely.make_valid(ring), square)
    }
    boxes = {
        key
        for key, ring in zip(everything.ids, rings, strict=True)
        if shapely.intersects(shapely.box(*ring.bounds), square)
    }
    assert touching <= set(near.ids) == boxes
    assert 0 < len(near) < len(everything)
    for key, ring in zip(near.ids, _rings(near), strict=True):
        assert ring.equals(rings[everything.ids.index(key)])


@needs_towns
def test_route_lanes_are_marked_with_those_beside_them(town):
    key = max(town.lanes, key=lambda k: (town.lanes[k].left_neighbor is not None, k))
    lane = town.lanes[key]
    near = RoadAreas(town).near(lane.centerline_m[0], [key], 1e6)
    marked = {name for name, flag in zip(near.ids, near.on_route, strict=True) if flag}
    assert key in marked
    assert {lane.left_neighbor, lane.right_neighbor} - {None} <= marked
    roads = {name.rsplit(".", 1)[0] for name in marked}
    assert roads == {key.rsplit(".", 1)[0]}  # Neighbours are of the same road and section.


@needs_towns
def test_centreline_of_a_route_follows_its_lanes(town):
    for lane_ids in _routes(town, 5):
        line, speeds = route_centerline(town.lanes, lane_ids)
        steps = np.hypot(*np.diff(line[:, :2], axis=0).T)
        assert steps == pytest.approx(1.0, abs=0.15)
        mapped = [densified(town.lanes[key].centerline_m[:, :2], 0.2) for key in lane_ids]
        distance, _ = cKDTree(np.concatenate(mapped)).query(line[:, :2])
        assert distance.max() < 0.25
        moved = np.arctan2(*np.diff(line[:, :2], axis=0).T[::-1])
        turn = np.angle(np.exp(1j * (moved - line[:-1, 2])))
        assert np.abs(turn).max() < 0.2
        known = {town.lanes[key].speed_limit_mps for key in lane_ids} - {None}
        assert set(speeds) <= known | {FALLBACK_SPEED_MPS}


@needs_towns
def test_expert_alone_on_a_route_stays_on_the_road(town):
    planner, areas = PdmClosed(town.lanes), RoadAreas(town)
    for lane_ids in _routes(town, 2):
        line, speeds = route_centerline(town.lanes, lane_ids)
        state = np.zeros(STATE_SIZE)
        state[:3], state[StateIndex.VX] = line[4], 5.0
        driven = [state]
        for _ in range(50):
            near = areas.near(state[:2], lane_ids)
            scene = PdmScene(state, near, line, agents_of(), NO_LIGHTS)
            states = simulate(state, planner.plan(scene, np.minimum(speeds, 16.0))[None])[0]
            driven += list(states[1:6])
            state = states[5]
        every = areas.near(state[:2], lane_ids, 1e3)
        flags = ego_areas(every, np.array(driven)[None])[0]
        assert not flags[:, NON_DRIVABLE].any()
        assert np.linalg.norm(state[:2] - line[4, :2]) > 20.0


def test_lane_change_is_smooth_and_ends_on_the_other_lane():
    x = np.linspace(0.0, 100.0, 11)
    right = Lane("r", np.column_stack([x, 0 * x, 0 * x]), left_neighbor="l")
    left = Lane("l", np.column_stack([x, 0 * x + 3.5, 0 * x]), right_neighbor="r")
    line, _ = route_centerline({"r": right, "l": left}, ["r", "l"])
    assert line[0, 1] == pytest.approx(0.0, abs=0.1)
    assert line[60:, 1] == pytest.approx(3.5, abs=1e-6)
    assert np.abs(np.gradient(line[:, 2])).max() < 0.02  # Radius over 50 m.


def test_map_without_surfaces_and_edges_drives_on_its_lanes():
    x = np.linspace(0.0, 50.0, 6)
    empty = Shapes.from_list([])
    lane = Lane("a", np.column_stack([x, 0 * x, 0 * x]))
    lanes = {"a": lane, "b": replace(lane, id="b", in_junction=True)}
    near = RoadAreas(VectorMap("bare", empty, empty, lanes)).near(np.zeros(2), ["a"])
    assert sorted(near.kinds) == [
        Area.ROADBLOCK,
        Area.INTERSECTION,
        Area.LANE,
        Area.LANE_CONNECTOR,
    ]
    widths_m = [ring.area / 50.0 for ring in _rings(near)]
    assert widths_m == pytest.approx([6.0, 6.0, 3.5, 3.5])  # Roads reach into the next lane.


def _rings(areas):
    pairs = zip(areas.offsets[:-1], areas.offsets[1:], strict=True)
    return [shapely.Polygon(areas.points_m[first:last]) for first, last in pairs]


def _routes(town, count):
    """Returns lane sequences through junctions, at least 150 m long."""
    rng = np.random.default_rng(7)
    keys = sorted(key for key, lane in town.lanes.items() if not lane.in_junction)
    routes = []
    while len(routes) < count:
        route = [keys[int(rng.integers(len(keys)))]]
        while len(route) < 6 and town.lanes[route[-1]].successors:
            onward = town.lanes[route[-1]].successors
            route.append(onward[int(rng.integers(len(onward)))])
        length_m = sum(
            np.hypot(*np.diff(town.lanes[key].centerline_m[:, :2], axis=0).T).sum() for key in route
        )
        if len(route) == 6 and length_m > 150.0:
            routes.append(route)
    return routes


def test_a_lane_without_edges_is_drivable_beside_its_line_only_where_no_surface_is():
    surface = [[0, -2, 0], [40, -2, 0], [40, 2, 0], [0, 2, 0]]
    lines = {"on": [[0, 0, 0], [40, 0, 0]], "beyond": [[40, 0, 0], [80, 0, 0]]}
    vector_map = VectorMap(
        "bare",
        Shapes.from_list([]),
        Shapes.from_list([(PolygonKind.DRIVABLE, surface)]),
        {key: Lane(key, np.array(line, dtype=float)) for key, line in lines.items()},
    )
    areas = RoadAreas(vector_map).near(np.zeros(2), ())
    drivable = [name for name, kind in zip(areas.ids, areas.kinds, strict=True) if kind < Area.LANE]
    assert drivable == ["area.0", "area.beyond"]
