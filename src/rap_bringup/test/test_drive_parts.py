"""Odometry, map lines, quaternions and boxes: the parts that readers are made of."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rap_bringup.drives.map_lines import PIECE_M, TOLERANCE_M, outlines, pieces, thinned
from rap_bringup.drives.odometry import densified, states_from_poses
from rap_bringup.drives.recorded_drive import DriveError, checked_boxes
from rap_bringup.rotations import quaternion_from_rotation
from rap_perception.rig import rotation_from_quaternion

S = 1_000_000_000


def circle_poses(radius_m=20.0, speed_mps=5.0, steps=30, dt_s=0.1):
    stamps = (7 * S + np.arange(steps) * dt_s * S).astype(np.int64)
    turned = speed_mps / radius_m * np.arange(steps) * dt_s
    x, y = radius_m * np.sin(turned), radius_m * (1 - np.cos(turned))
    return stamps, np.column_stack([x, y, np.zeros(steps), turned])


def test_velocity_on_a_circle_is_forward_and_of_the_right_size():
    states = states_from_poses(*circle_poses())
    for state in states[1:]:
        assert state.vx_mps == pytest.approx(5.0, abs=2e-3)
        assert abs(state.vy_mps) < 0.1  # half a step of turning: 5 * sin(0.0125)
        assert state.yaw_rate_radps == pytest.approx(0.25)


@given(st.integers(3, 29))
def test_cutting_a_drive_changes_nothing_before_the_cut(cut):
    """No look-ahead: odometry up to a stamp depends on poses up to that stamp only."""
    stamps, poses = circle_poses()
    whole = states_from_poses(*densified(stamps, poses))
    short = states_from_poses(*densified(stamps[:cut], poses[:cut]))
    assert short == whole[: len(short)]
    assert short[-1].stamp_ns == stamps[cut - 1]


def test_dense_odometry_keeps_recorded_poses_and_comes_at_fifty_hertz():
    stamps, poses = circle_poses()
    dense_ns, dense = densified(stamps, poses)
    assert np.diff(dense_ns).max() <= 20_000_000
    kept = np.isin(dense_ns, stamps)
    np.testing.assert_allclose(dense[kept], poses, atol=1e-9)


def test_heading_is_interpolated_the_short_way_round():
    poses = np.array([[0, 0, 0, 3.1], [1, 0, 0, -3.1]])
    _, dense = densified(np.array([0, S // 10]), poses)
    assert np.abs(np.diff(dense[:, 3])).max() < 0.05


@given(st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=2, max_size=40))
@settings(deadline=None)
def test_thinned_lines_stay_within_the_tolerance_and_keep_their_ends(points):
    line = np.array([(3000 + x, -2000 + y, 0.0) for x, y in points])
    kept = thinned(line)
    assert kept[0].tolist() == line[0].tolist()
    assert kept[-1].tolist() == line[-1].tolist()
    assert max(_distance(point[:2], kept[:, :2]) for point in line) < TOLERANCE_M + 1e-9


def _distance(point, line):
    starts, steps = line[:-1], np.diff(line, axis=0)
    length2 = np.maximum((steps**2).sum(1), 1e-12)
    share = np.clip(((point - starts) * steps).sum(1) / length2, 0, 1)
    return np.linalg.norm(starts + share[:, None] * steps - point, axis=1).min()


def test_a_straight_line_of_many_points_becomes_two():
    line = np.column_stack([np.linspace(0, 40, 400), np.zeros(400), np.zeros(400)])
    assert thinned(line).tolist() == [[0, 0, 0], [40, 0, 0]]


def test_pieces_are_short_and_join_without_gaps():
    line = np.column_stack([np.arange(0, 333, 7.0), np.zeros(48), np.zeros(48)])
    parts = pieces(line)
    assert len(parts) > 5
    for part in parts:
        assert np.linalg.norm(np.diff(part, axis=0), axis=1).sum() <= PIECE_M
    for before, after in pairwise(parts):
        assert before[-1].tolist() == after[0].tolist()


def test_an_edge_two_areas_share_is_no_edge_of_the_road():
    """Two squares with a gap of 0.1 m: the outline is one rectangle, nothing at x = 10."""
    left = np.array([[0, 0, 5], [10, 0, 5], [10, 10, 5], [0, 10, 5]], float)
    right = left + np.array([10.1, 0.0, 0.0])
    (edge,) = outlines([left, right])
    inside = (np.abs(edge[:, 0] - 10.05) < 1) & (np.abs(edge[:, 1] - 5) < 4)
    assert not inside.any()
    assert edge[:, :2].min(axis=0) == pytest.approx([0, 0], abs=0.01)
    assert edge[:, :2].max(axis=0) == pytest.approx([20.1, 10], abs=0.01)


@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternion_of_a_rotation_is_the_one_it_was_made_of(values):
    quaternion = np.array(values) / np.linalg.norm(values)
    found = quaternion_from_rotation(rotation_from_quaternion(quaternion))
    assert abs(found @ quaternion) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_have_a_quaternion_too(axis):
    quaternion = np.zeros(4)
    quaternion[axis] = 1.0
    found = quaternion_from_rotation(rotation_from_quaternion(quaternion))
    assert abs(found @ quaternion) == pytest.approx(1.0)


def test_boxes_no_node_could_use_are_refused_with_their_index():
    good = [1, 1, 0, 0, 0, 4, 2, 2, 0, np.nan, np.nan]
    assert len(checked_boxes(np.array([good]), "here")) == 1
    for column, value, text in ((2, np.nan, "box 1: expected finite"), (6, 0.0, "box 1: size")):
        bad = [2, *good[1:]]
        bad[column] = value
        with pytest.raises(DriveError, match=text):
            checked_boxes(np.array([good, bad]), "here")
    with pytest.raises(DriveError, match="unique"):
        checked_boxes(np.array([good, good]), "here")
