from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rap_raster.maps.routing import (
    CONTINUATION_M,
    connect_by_endpoints,
    route_along,
    route_points,
)
from rap_raster.maps.vector_map import Lane


def straight(key, start, end, **kwargs):
    return Lane(key, np.linspace([*start, 0.0], [*end, 0.0], 5), **kwargs)


def bend(key, center, start_deg, end_deg, radius=15.0, **kwargs):
    angle = np.radians(np.linspace(start_deg, end_deg, 20))
    points = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1) * radius
    return Lane(key, points + np.array([*center, 0.0]), **kwargs)


def network():
    """Two parallel lanes to a fork: straight on (s), or left (t) and away."""
    return {
        lane.id: lane
        for lane in (
            straight("a", (0, 0), (60, 0), successors=("s", "t"), left_neighbor="b"),
            straight("b", (0, 3.5), (60, 3.5), successors=("c",), right_neighbor="a"),
            straight("c", (60, 3.5), (140, 3.5)),
            straight("s", (60, 0), (140, 0), successors=("u",)),
            bend("t", (60, 15), -90, 0, successors=("v",)),
            straight("v", (75, 15), (75, 60), successors=("w",)),
            straight("w", (75, 60), (75, 160)),
            straight("u", (140, 0), (240, 0)),
        )
    }


def drive(*points, step_m=0.7):
    """A path of (n, 3) poses along straight pieces."""
    pieces = []
    for start, end in pairwise(points):
        delta = np.subtract(end, start)
        count = max(2, int(np.hypot(*delta) / step_m))
        xy = np.linspace(start, end, count)
        pieces.append(np.column_stack([xy, np.full(count, np.arctan2(*delta[::-1]))]))
    return np.concatenate(pieces)


def left_turn():
    angle = np.radians(np.linspace(-90, 0, 30))
    arc = np.column_stack([60 + 15 * np.cos(angle), 15 + 15 * np.sin(angle), angle + np.pi / 2])
    return np.concatenate([drive((5, 0), (60, 0)), arc, drive((75, 15), (75, 30))])


def test_route_follows_the_turn_that_was_driven():
    assert route_along(network(), left_turn()) == ["a", "t", "v", "w"]
    assert route_along(network(), drive((5, 0), (100, 0))) == ["a", "s", "u"]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(40, 400))
def test_route_does_not_depend_on_the_speed_profile(seed, samples):
    """The same path sampled at other times, with stops, gives the same lanes."""
    path = left_turn()
    times = np.sort(np.random.default_rng(seed).uniform(0, len(path) - 1, samples))
    times = np.repeat(times, 1 + np.random.default_rng(seed + 1).integers(0, 4, samples))
    ends = np.concatenate([[0.0], times, [len(path) - 1.0]])
    other = np.column_stack([np.interp(ends, np.arange(len(path)), column) for column in path.T])
    assert route_along(network(), other) == route_along(network(), path)


def test_route_does_not_tell_where_the_drive_ended():
    """Stopping early on the last lane changes nothing, and the route goes on behind it."""
    lanes = network()
    assert route_along(lanes, drive((5, 0), (70, 0))) == route_along(lanes, drive((5, 0), (130, 0)))
    route = route_points(lanes, route_along(lanes, drive((5, 0), (58, 0))))
    assert route[-1, 0] >= 60 + CONTINUATION_M


def test_lane_change_is_part_of_the_sequence():
    path = drive((5, 0), (20, 0), (45, 3.5), (100, 3.5))
    assert route_along(network(), path) == ["a", "b", "c"]


def test_route_changes_lanes_at_the_start_whenever_the_driver_did():
    lanes = network()
    early = route_along(lanes, drive((0, 0), (5, 0), (25, 3.5), (100, 3.5)))
    late = route_along(lanes, drive((0, 0), (35, 0), (55, 3.5), (100, 3.5)))
    assert early == late
    points = route_points(lanes, early)
    np.testing.assert_allclose(points[0, :2], [0, 0], atol=1e-9)
    np.testing.assert_allclose(points[points[:, 0] > 31.0, 1], 3.5)
    assert (np.abs(np.diff(points[:, 1])) < 0.2).all()


def test_drifting_between_lanes_is_no_lane_change():
    """1.2 m off the centreline for 10 m is nearer to the own lane all the time."""
    path = drive((5, 0), (20, 0), (25, 1.2), (35, 1.2), (40, 0), (100, 0))
    assert route_along(network(), path) == ["a", "s", "u"]


@pytest.mark.parametrize(
    "path",
    [
        drive((5, 40), (50, 40)),  # Beside all lanes.
        drive((55, 0), (5, 0)),  # Against the lane's direction.
        drive((5, 0), (30, 0))[::-1] * [1, 1, 0] + [0, 0, np.pi],
    ],
)
def test_path_off_the_lanes_has_no_route(path):
    assert route_along(network(), path) is None


def test_unconnected_lanes_have_no_route():
    lanes = network()
    lanes["a"] = straight("a", (0, 0), (60, 0))
    assert route_along(lanes, drive((5, 0), (100, 0))) is None


def test_standing_vehicle_is_routed_by_its_place():
    path = np.tile([30.0, 0.2, 0.0], (50, 1))
    assert route_along(network(), path) == ["a", "s"]


def test_lanes_shorter_than_a_step_are_not_lost():
    lanes = network()
    lanes["a"] = straight("a", (0, 0), (59, 0), successors=("x",))
    lanes["x"] = straight("x", (59, 0), (59.5, 0), successors=("y",))
    lanes["y"] = straight("y", (59.5, 0), (60, 0), successors=("s",))
    assert route_along(lanes, drive((5, 0), (100, 0))) == ["a", "x", "y", "s", "u"]


def test_centrelines_are_connected_by_place_and_direction():
    lines = {
        "in": np.array([[0.0, 0, 0], [10, 0, 0]]),
        "on": np.array([[10.2, 0, 0], [20, 0, 0]]),
        "left": np.array([[10.0, 0.1, 0], [12, 0.4, 0], [14, 2, 0]]),
        "back": np.array([[10.0, 0, 0], [0, 1, 0]]),
        "far": np.array([[12.0, 0, 0], [20, 0, 0]]),
    }
    lanes = connect_by_endpoints(lines)
    assert lanes["in"].successors == ("left", "on")
    assert lanes["on"].successors == ()
    assert connect_by_endpoints({}) == {}
