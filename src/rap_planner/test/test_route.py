from __future__ import annotations

import numpy as np
import pytest
from shapely import LineString, Point

from rap_planner.candidates import manoeuvre_entropy
from rap_planner.route import NO_GUIDANCE, Command, Guidance, command_from_route, route_ahead
from rap_raster.frames import Pose, to_parent


def arc(radius_m: float, length_m: float = 60.0) -> np.ndarray:
    """Route along +x that turns with the given signed radius."""
    angles = np.linspace(0.0, length_m / abs(radius_m), 61)
    sign = np.sign(radius_m)
    x, y = abs(radius_m) * np.sin(angles), sign * abs(radius_m) * (1 - np.cos(angles))
    return np.stack([x, y], axis=1)


ORIGIN = Pose(0.0, 0.0, 0.0, 0.0)
STRAIGHT = np.stack([np.linspace(-5.0, 60.0, 14), np.zeros(14)], axis=1)


# 20 m along an arc of radius r is about 200/r sideways: 2 m at r = 100 m.
@pytest.mark.parametrize(
    ("radius_m", "expected"),
    [
        (30.0, Command.LEFT),
        (-30.0, Command.RIGHT),
        (150.0, Command.STRAIGHT),
        (-150.0, Command.STRAIGHT),
    ],
)
def test_command_is_the_side_the_route_leaves_to(radius_m, expected):
    assert command_from_route(arc(radius_m), ORIGIN) is expected


def test_command_does_not_depend_on_where_the_map_frame_is():
    reference = [400_000.0, 5_600_000.0, 2.1]
    route = arc(30.0)
    moved = to_parent(reference, np.concatenate([route, np.zeros((len(route), 1))], axis=1))
    assert command_from_route(moved, Pose(reference[0], reference[1], 0.0, 2.1)) is Command.LEFT


@pytest.mark.parametrize(
    ("route", "pose"),
    [
        (None, ORIGIN),
        (STRAIGHT[:1], ORIGIN),
        (STRAIGHT, Pose(0.0, 30.0, 0.0, 0.0)),
        (STRAIGHT, Pose(45.0, 0.0, 0.0, 0.0)),
        (np.zeros((5, 2)), ORIGIN),
    ],
    ids=["no route", "one point", "off the route", "near its end", "a point five times"],
)
def test_command_is_unknown_where_the_route_says_nothing(route, pose):
    assert command_from_route(route, pose) is Command.UNKNOWN


def test_a_route_that_comes_back_on_the_other_side_is_read_in_driving_direction():
    back = STRAIGHT[::-1] + np.array([0.0, 3.0])
    loop = np.concatenate([back, STRAIGHT])  # passes y = 3 against us first, then our lane
    assert command_from_route(loop, ORIGIN) is Command.STRAIGHT


def bend(seed: int) -> np.ndarray:
    """A route of 120 m in uneven pieces whose heading stays within 60 degrees of +x."""
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(0.3, 4.0, 80)
    lengths *= 120.0 / lengths.sum()
    headings = np.clip(np.cumsum(rng.normal(scale=0.08, size=80)), -1.0, 1.0)
    steps = lengths[:, None] * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


@pytest.mark.parametrize("seed", range(12))
def test_the_route_ahead_is_the_line_that_shapely_walks_along(seed):
    points, spacing_m = 10, 5.0
    route = bend(seed)
    line = LineString(route)
    rng = np.random.default_rng(100 + seed)
    near = np.array(line.interpolate(rng.uniform(0.0, 110.0)).coords[0]) + rng.uniform(-1, 1, 2)
    pose = Pose(float(near[0]), float(near[1]), 0.0, float(rng.uniform(-0.5, 0.5)))
    rows = route_ahead(route, pose, points, spacing_m)
    along_m = line.project(Point(near)) + spacing_m * np.arange(points)
    there = along_m <= line.length
    assert rows.shape == (points, 3)
    assert rows.dtype == np.float32
    assert rows[:, 2].tolist() == there.astype(float).tolist()
    expected = np.array([line.interpolate(m).coords[0] for m in along_m[there]]).reshape(-1, 2)
    reached = to_parent([*near, pose.yaw_rad], np.c_[rows[there, :2], np.zeros(there.sum())])
    np.testing.assert_allclose(reached[:, :2], expected, atol=1e-4)
    assert (rows[~there] == 0.0).all()


def test_the_route_ahead_ends_with_the_route():
    rows = route_ahead(STRAIGHT, Pose(40.0, 0.5, 0.0, 0.0), 10, 5.0)  # 20 m before its end
    np.testing.assert_allclose(rows[:5], [[5.0 * k, -0.5, 1.0] for k in range(5)], atol=1e-6)
    assert (rows[5:] == 0.0).all()


@pytest.mark.parametrize(
    ("route", "pose"),
    [
        (None, ORIGIN),
        (STRAIGHT[:1], ORIGIN),
        (STRAIGHT, Pose(0.0, 30.0, 0.0, 0.0)),
        (STRAIGHT, Pose(0.0, 0.0, 0.0, np.pi)),
        (np.zeros((5, 2)), ORIGIN),
    ],
    ids=["no route", "one point", "off the route", "against it", "a point"],
)
def test_no_point_of_the_route_is_valid_where_it_says_nothing(route, pose):
    assert (route_ahead(route, pose, 10, 5.0) == 0.0).all()


@pytest.mark.parametrize("apart_m", [0.0, 1e-300, 1e-170, 1e-9])
def test_points_that_are_repeated_change_nothing(apart_m):
    wanted = route_ahead(STRAIGHT, ORIGIN, 10, 2.5)
    for place in range(len(STRAIGHT)):
        again = np.insert(STRAIGHT, place, STRAIGHT[place] + [0.0, apart_m], axis=0)
        np.testing.assert_allclose(route_ahead(again, ORIGIN, 10, 2.5), wanted, atol=1e-6)
        assert command_from_route(again, ORIGIN) is Command.STRAIGHT


def test_a_route_of_no_points_is_an_empty_one():
    assert route_ahead(STRAIGHT, ORIGIN, 0, 5.0).shape == (0, 3)


def test_guidance_along_a_route_carries_it_with_its_command():
    route = arc(30.0)
    guidance = Guidance.along(route, ORIGIN)
    assert (guidance.command, guidance.source) == (Command.LEFT, "route")
    assert guidance.route_m is route
    assert (NO_GUIDANCE.command, NO_GUIDANCE.route_m) == (Command.UNKNOWN, None)


def test_proposals_that_end_in_one_place_are_certain():
    ends = np.full((64, 2), 20.0) + 0.1
    assert manoeuvre_entropy(ends, np.zeros(64)) == 0.0


def test_scattered_equal_proposals_are_fully_uncertain():
    ends = np.stack([np.arange(64) * 10.0, np.zeros(64)], axis=1)
    assert manoeuvre_entropy(ends, np.zeros(64)) == pytest.approx(1.0)
