"""Compiled checks of footprints against shapely."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from label_checker import box

from rap_training.augmentation.recovery.clearance_kernels import (
    Footprint,
    Traffic,
    in_area,
    leaves_road,
    meets_traffic,
)
from rap_training.augmentation.recovery.free_space import border_edges

FOOTPRINT = Footprint(1.3, 2.3, 0.95)
CLEAR_M = 1e-6  # Closer than this to touching, rounding decides.
POSES = st.tuples(st.floats(-12, 12), st.floats(-12, 12), st.floats(-4, 4))
# Two rooms with a door between them, a pillar in one and an island beside them.
AREA = shapely.union_all(
    [
        shapely.box(-10, -8, 0, 8).difference(shapely.box(-6, -1, -5, 1)),
        shapely.box(0, -2, 2, 2),
        shapely.Polygon([(2, -6), (9, -8), (11, 7), (2, 6)]),
        shapely.box(12, -3, 20, 3),
    ]
)


def shape_at(pose) -> shapely.Polygon:
    x, y, yaw = pose
    return box(x + 1.3 * np.cos(yaw), y + 1.3 * np.sin(yaw), yaw, 4.6, 1.9)


@settings(deadline=None)  # The first call compiles.
@given(pose=POSES)
def test_on_the_road_is_what_shapely_says(pose):
    shape = shape_at(pose)
    assume(AREA.boundary.distance(shape) > CLEAR_M or shape.intersection(AREA.boundary).length > 0)
    poses, edges = np.array([pose]), border_edges(AREA)
    assert leaves_road(poses, FOOTPRINT, edges) != AREA.contains(shape)
    assert in_area(poses, FOOTPRINT, edges)[0] == AREA.intersects(shape)


@settings(deadline=None)
@given(
    pose=POSES, other=POSES, length=st.floats(0.3, 12.0), width=st.floats(0.3, 3.0),
    z=st.sampled_from([0.0, 3.0, 5.0]), first=st.integers(0, 3), steps=st.integers(1, 3),
)  # fmt: skip
def test_contacts_are_what_shapely_says(*, pose, other, length, width, z, first, steps):
    mine, theirs = shape_at(pose), box(*other, length, width)
    assume(mine.distance(theirs) > CLEAR_M or mine.intersection(theirs).area > CLEAR_M)
    states = np.tile([*other[:2], z, other[2], 0.0, 0.0, 0.0], (steps, 1))
    traffic = Traffic(
        np.array([first], np.int32), np.array([first + steps - 1], np.int32),
        np.array([0, steps]), states, np.array([[length, width, 1.5]]),
    )  # fmt: skip
    poses = np.array([pose])
    for step in range(7):
        there = first <= step < first + steps and z < 4.0
        found = meets_traffic(poses, np.zeros(1), FOOTPRINT, traffic, np.array([0]), step, 4.0)
        assert found == (there and mine.intersects(theirs))


def test_a_way_out_and_back_is_seen():
    across = np.array([[x, 0.0, 0.0] for x in np.linspace(-1.5, 15.0, 23)])
    assert not leaves_road(across[:8], FOOTPRINT, border_edges(AREA))
    assert leaves_road(across, FOOTPRINT, border_edges(AREA))


def test_border_edges_are_the_whole_border():
    edges = border_edges(AREA)
    lengths = np.hypot(edges[:, 2] - edges[:, 0], edges[:, 3] - edges[:, 1])
    assert lengths.sum() == pytest.approx(AREA.boundary.length)
