"""Routes of lanelets on a map whose centrelines are known exactly: two lanes of two lanelets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rap_raster.maps.lanelet_route import lanelet_route_points
from rap_raster.maps.vector_map import Lane

# 1 -> 2 on the right, 11 -> 12 beside them on the left; each 100 m to the east.
LANES = {
    key: Lane(
        key,
        np.array([(x_m, y_m, 5.0) for x_m in np.linspace(start_m, start_m + 100.0, 21)]),
        successors=(follower,) if follower else (),
        left_neighbor=left,
        right_neighbor=right,
    )
    for key, start_m, y_m, follower, left, right in [
        ("1", 0.0, 0.0, "2", "11", None),
        ("2", 100.0, 0.0, None, "12", None),
        ("11", 0.0, 3.5, "12", None, "1"),
        ("12", 100.0, 3.5, None, None, "2"),
    ]
}


def test_the_route_runs_along_the_centrelines_up_to_the_foot_of_the_goal():
    points = lanelet_route_points(LANES, [1, 2], np.array([152.5, 1.0]))
    np.testing.assert_allclose(points[0], [0.0, 0.0, 5.0])
    np.testing.assert_allclose(points[-1], [152.5, 0.0, 5.0])
    assert (np.diff(points[:, 0]) > 0.0).all()


def test_a_change_of_the_preferred_lane_goes_over_within_the_segment_before():
    points = lanelet_route_points(LANES, [1, 12], np.array([180.0, 3.5]))
    before, behind = points[points[:, 0] < 100.0], points[points[:, 0] > 100.0]
    assert before[0, 1] == 0.0
    assert (np.diff(points[:, 1]) >= 0.0).all()
    assert (behind[:, 1] == 3.5).all()
    assert np.abs(np.diff(points[:, 1])).max() < 3.5 / 2  # no jump


@pytest.mark.parametrize("goal_x_m", [-20.0, 300.0])
def test_a_goal_beyond_an_end_leaves_the_route_within_its_lanes(goal_x_m):
    points = lanelet_route_points(LANES, [1, 2], np.array([goal_x_m, 0.0]))
    assert points[-1, 0] == np.clip(goal_x_m, 100.0, 200.0)


def test_a_route_round_the_block_does_not_end_where_it_passes_its_goal_first():
    corners = np.array([[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]], dtype=float)
    ring = {
        str(number): Lane(
            str(number),
            np.column_stack([np.linspace(start, end, 21), np.zeros(21)]),
            successors=(str(number % 4 + 1),),
        )
        for number, start, end in zip(range(1, 5), corners[:-1], corners[1:], strict=True)
    }
    points = lanelet_route_points(ring, [1, 2, 3, 4, 1], np.array([20.0, 1.0]))
    np.testing.assert_allclose(points[-1], [20.0, 0.0, 0.0], atol=1e-9)
    assert np.hypot(*np.diff(points[:, :2], axis=0).T).sum() == pytest.approx(420.0)


def side_by_side(length_m: float) -> dict[str, Lane]:
    """Three lanes, 1 to 3 from the right, and 13, which follows lane 3 alone."""
    lanes = {
        str(number): Lane(
            str(number),
            np.array([(0.0, y_m, 0.0), (length_m, y_m, 0.0)]),
            successors=("13",) if number == 3 else (),
            left_neighbor=str(number + 1) if number < 3 else None,
            right_neighbor=str(number - 1) if number > 1 else None,
        )
        for number, y_m in [(1, 0.0), (2, 3.5), (3, 7.0)]
    }
    lanes["13"] = Lane("13", np.array([(length_m, 7.0, 0.0), (length_m + 50.0, 7.0, 0.0)]))
    return lanes


@pytest.mark.parametrize(("length_m", "steepest_deg"), [(100.0, 30.0), (10.0, 40.0)])
def test_a_preferred_lane_two_lanes_over_is_reached_without_a_jump(length_m, steepest_deg):
    """On a short lane the line crosses over all of it, as steeply as that takes."""
    points = lanelet_route_points(side_by_side(length_m), [1, 13], np.array([length_m + 20.0, 7.0]))
    steps = np.diff(points[:, :2], axis=0)
    assert points[0, 1] == 0.0
    assert points[-1, 1] == 7.0
    assert np.degrees(np.arctan2(steps[:, 1], steps[:, 0])).max() < steepest_deg


def test_a_lane_that_begins_beside_the_next_one_is_reached_from_it():
    """A pocket to turn has no lane before it; Autoware's routes prefer it all the same."""
    lanes = LANES | {"11": replace(LANES["11"], successors=())}
    points = lanelet_route_points(lanes, [1, 12], np.array([195.0, 3.5]))
    on_first, behind = points[points[:, 0] <= 100.0], points[points[:, 0] > 160.0]
    assert (on_first[:, 1] == 0.0).all()
    assert (behind[:, 1] == 3.5).all()
    assert points[-1, 0] == pytest.approx(195.0, abs=0.5)


def test_a_lanelet_that_does_not_follow_is_refused():
    """Its route would be a jump, which the planner would follow."""
    with pytest.raises(ValueError, match="lanelet 1 does not follow lanelet 13"):
        lanelet_route_points(side_by_side(50.0), [1, 13, 1], np.zeros(2))


@pytest.mark.parametrize(
    ("ids", "reason"), [([], "has no segments"), ([1, 7], "lanelet 7 is no lane of the map")]
)
def test_a_route_that_is_not_of_this_map_is_refused(ids, reason):
    with pytest.raises(ValueError, match=reason):
        lanelet_route_points(LANES, ids, np.zeros(2))
