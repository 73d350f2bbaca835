from __future__ import annotations

import numpy as np
import pytest

from rap_planner.candidates import manoeuvre_entropy
from rap_planner.route import Command, command_from_route
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


def test_proposals_that_end_in_one_place_are_certain():
    ends = np.full((64, 2), 20.0) + 0.1
    assert manoeuvre_entropy(ends, np.zeros(64)) == 0.0


def test_scattered_equal_proposals_are_fully_uncertain():
    ends = np.stack([np.arange(64) * 10.0, np.zeros(64)], axis=1)
    assert manoeuvre_entropy(ends, np.zeros(64)) == pytest.approx(1.0)
