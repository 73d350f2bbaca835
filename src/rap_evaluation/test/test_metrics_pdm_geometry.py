"""The geometry of the PDM score against shapely, which the official code uses."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.affinity import rotate, translate

from rap_evaluation.metrics import pdm_kernels as kernels
from rap_evaluation.metrics.pdm_scene import STATE_SIZE, AgentKind, Area
from rap_raster.vehicle import PACIFICA

SEEDS = st.integers(0, 2**32 - 1)


def state_at(x, y, heading, speed=5.0):
    state = np.zeros(STATE_SIZE)
    state[:4] = x, y, heading, speed
    return state


def box(x, y, heading, length, width):
    outline = shapely.box(-length / 2, -width / 2, length / 2, width / 2)
    return translate(rotate(outline, heading, origin=(0, 0), use_radians=True), x, y)


def ego_polygon(state):
    ahead = PACIFICA.rear_axle_to_center_m
    x, y, heading = state[:3]
    center = x + ahead * np.cos(heading), y + ahead * np.sin(heading)
    return box(*center, heading, PACIFICA.length_m, PACIFICA.width_m)


def random_ring(rng):
    """A star-shaped polygon, usually concave, of either winding, closed or not."""
    count = int(rng.integers(3, 40))
    angle = 2 * np.pi * (np.arange(count) + rng.uniform(0, 0.9, count)) / count
    radius = rng.uniform(2, 25, count)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    ring = ring[:: rng.choice([-1, 1])] + rng.uniform(-10, 10, 2)
    return np.concatenate([ring, ring[:1]]) if rng.random() < 0.5 else ring


def index_of(rings, kinds, on_route):
    return kernels.index_areas(
        np.array(kinds, np.uint8),
        np.array(on_route),
        np.cumsum([0, *map(len, rings)]),
        np.concatenate(rings),
    )


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_areas_of_the_ego_agree_with_shapely(seed):
    rng = np.random.default_rng(seed)
    rings = [random_ring(rng) for _ in range(8)]
    kinds = rng.integers(0, 5, 8)
    on_route = rng.random(8) < 0.5
    states = np.array([[state_at(*rng.uniform(-15, 15, 2), rng.uniform(-4, 4)) for _ in range(5)]])
    flags = kernels.ego_areas(index_of(rings, kinds, on_route), states)[0]
    polygons = [shapely.Polygon(ring) for ring in rings]
    for state, found in zip(states[0], flags, strict=True):
        outline = ego_polygon(state)
        corners = [shapely.Point(c) for c in outline.exterior.coords[:4]]
        inside = np.array([[p.contains(c) for c in corners] for p in polygons])
        lane = kinds >= Area.LANE
        center = [p.contains(outline.centroid) for p in polygons]
        junctions = [
            p for p, kind in zip(polygons, kinds, strict=True) if kind == Area.INTERSECTION
        ]
        several = inside[lane].any(axis=1).sum() > 1 and not inside[lane].all(axis=1).any()
        expected = [
            several,
            not inside[~lane].any(axis=0).all(),
            not (lane & on_route & center).any(),
            any(p.contains(shapely.Point(state[:2])) for p in junctions),
            any(p.contains(outline.centroid) for p in junctions),
        ]
        assert found.tolist() == [bool(flag) for flag in expected]


def test_what_lies_on_a_border_is_outside():
    # The rear axle of a car on an axis-aligned square: on its edges, on a corner, and inside.
    square = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
    index = index_of([square], [Area.INTERSECTION], [False])
    places = [(0, 5), (5, 0), (10, 5), (5, 10), (0, 0), (10, 10), (5, 5)]
    states = np.array([[state_at(x, y, 0.3) for x, y in places]])
    flags = kernels.ego_areas(index, states)[0, :, kernels.AXLE_IN_JUNCTION]
    assert flags.tolist() == [False] * 6 + [True]


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS)
def test_contacts_agree_with_shapely(seed):
    rng = np.random.default_rng(seed)
    state = state_at(*rng.uniform(-4, 4, 2), rng.uniform(-4, 4))
    agents = np.zeros((6, 1, 5))
    agents[:, 0, :3] = rng.uniform([-6, -6, -4], [6, 6, 4], (6, 3))
    sizes = rng.uniform(0.3, 8.0, (6, 2))
    expected = [
        ego_polygon(state).intersects(box(*agent[0, :3], *size))
        for agent, size in zip(agents, sizes, strict=True)
    ]
    assert kernels.initial_overlaps(state, agents, sizes).tolist() == expected


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS)
def test_red_connectors_agree_with_shapely(seed):
    rng = np.random.default_rng(seed)
    rings = [random_ring(rng) for _ in range(3)]
    states = np.array([[state_at(*rng.uniform(-25, 25, 2), rng.uniform(-4, 4))] for _ in range(4)])
    run = kernels.red_lights_run(
        states,
        np.cumsum([0, *map(len, rings)]),
        np.concatenate(rings),
        np.arange(3),
        np.array([[True], [False], [True]]),
    )
    red = [shapely.Polygon(rings[row]) for row in (0, 2)]
    boxes = [ego_polygon(state[0]) for state in states]
    assert run.tolist() == [any(box.intersects(area) for area in red) for box in boxes]


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_projection_agrees_with_shapely(seed):
    rng = np.random.default_rng(seed)
    line = np.cumsum(rng.normal(0, 3, (30, 2)), axis=0)
    line[7] = line[6]  # Repeated points have no direction.
    points = rng.uniform(-15, 15, (20, 2))
    along, distance = kernels.along_line(line, points)
    reference = shapely.LineString(line)
    for point, s, d in zip(points, along, distance, strict=True):
        assert d == pytest.approx(reference.distance(shapely.Point(point)), abs=1e-9)
        # Two places on the line may be equally near: the place found must be at that distance.
        assert shapely.Point(point).distance(reference.interpolate(s)) == pytest.approx(d, abs=1e-9)


@pytest.mark.parametrize(
    ("agent", "speed", "areas", "score"),
    [
        pytest.param([3.5, 0, 0, 5, 0], 5.0, [], 0.0, id="drives into what moves ahead"),
        pytest.param([-3.0, 0, 0, 9, 0], 5.0, [], 1.0, id="is hit from behind"),
        pytest.param([1.5, 2.0, 0, 5, 0], 5.0, [], 1.0, id="is hit from the side in its lane"),
        pytest.param(
            [1.5, 2.0, 0, 5, 0], 5.0, [kernels.MULTIPLE_LANES], 0.0, id="changes lanes into it"
        ),
        pytest.param([1.5, 2.0, 0, 0, 0], 5.0, [], 0.0, id="scrapes what stands"),
        pytest.param([3.5, 0, 0, 5, 0], 0.0, [], 1.0, id="stands itself"),
    ],
)
def test_fault_is_found_as_defined(agent, speed, areas, score):
    states = np.array([[state_at(0, 0, 0, speed)]])
    flags = np.zeros((1, 1, 5), bool)
    flags[0, 0, areas] = True
    size = np.array([[4.0, 1.8]])
    result, first = kernels.collisions(
        states, flags, np.array([[agent]], float), np.array([AgentKind.VEHICLE], np.uint8), size
    )
    assert (result[0], first[0]) == (score, 0 if score == 0 else kernels.NEVER)


def test_a_static_object_costs_half():
    result, _ = kernels.collisions(
        np.array([[state_at(0, 0, 0)]]),
        np.zeros((1, 1, 5), bool),
        np.array([[[4.2, 0, 0, 0, 0]]], float),
        np.array([AgentKind.STATIC], np.uint8),
        np.array([[0.5, 0.5]]),
    )
    assert result.tolist() == [0.5]
