"""What the closed loop makes of the guard's trajectories."""

from __future__ import annotations

import numpy as np
import pytest

from rap_evaluation.closed_loop.ego import Ego
from rap_evaluation.metrics.pdm_scene import HORIZON_STEPS, StateIndex
from rap_evaluation.planners.trajectory_plan import trajectory_plan


class Flat:
    """A ground of no height."""

    def height(self, points_m: np.ndarray) -> np.ndarray:
        return np.zeros(len(points_m))


def circle(radius_m: float, driven_m: np.ndarray) -> np.ndarray:
    """Poses on a circle to the left that begins at the origin."""
    yaw = driven_m / radius_m
    return np.column_stack([radius_m * np.sin(yaw), radius_m * (1.0 - np.cos(yaw)), yaw])


def test_a_plan_is_what_is_left_of_a_trajectory_and_stands_where_it_ends():
    poses = np.column_stack([np.arange(1.0, 51.0), np.zeros((50, 2))])
    for passed, first in ((0, 5.0), (3, 8.0), (80, 50.0)):
        now_ns, place = 1_000_000_000 + passed * 100_000_000, np.array([min(passed, 50.0), 0.0])
        plan = trajectory_plan(1_000_000_000, poses, now_ns, place)
        assert plan.dt_s == 0.5
        assert plan.start_m == pytest.approx([*place, 0.0], abs=1e-9)
        ahead_m = np.minimum(first + 5.0 * np.arange(len(plan.poses_m)), 50.0)
        assert plan.poses_m[:, 0] == pytest.approx(ahead_m, abs=1e-9)
    standing = trajectory_plan(0, poses[:1], 0, np.array([3.0, 1.0]))
    assert standing.poses_m.tolist() == [[1.0, 0.0, 0.0]] * (HORIZON_STEPS // 5)


@pytest.mark.parametrize("late_m", [-1.0, 0.0, 2.0])
def test_who_is_late_or_early_is_tracked_from_beside_its_path_at_the_speed_that_is_due(late_m):
    poses = circle(10.0, 0.4 * np.arange(1, 51))
    beside = circle(9.5, np.array([(0.4 * 10 - late_m) * 9.5 / 10.0]))[0] + [0.0, 0.5, 0.0]
    plan = trajectory_plan(0, poses, 1_000_000_000, beside)
    tracked = np.vstack([plan.start_m, plan.poses_m])
    wanted = circle(10.0, 4.0 - late_m + 2.0 * np.arange(len(tracked)))
    within = wanted[:, 2] * 10.0 < 20.0  # Beyond its end the path goes on straight.
    assert within.sum() >= 7
    assert tracked[within] == pytest.approx(wanted[within], abs=0.01)


def test_headings_that_wrap_do_not_turn_a_plan():
    poses = np.column_stack([-np.arange(1.0, 51.0), np.zeros(50), np.full(50, np.pi)])
    poses[::2, 2] -= 2.0 * np.pi
    plan = trajectory_plan(0, poses, 450_000_000, np.array([-4.5, 0.2]))
    assert np.cos(plan.poses_m[:, 2]) == pytest.approx(-1.0)


@pytest.mark.parametrize("speed_mps", [3.0, 6.0, 8.0])
@pytest.mark.parametrize("end", [(-0.3, 0.3, 0.12), (-1.0, 0.0, 0.05), (-1.0, -0.3, -0.12)])
def test_a_vehicle_past_the_place_where_it_should_stand_is_turned_as_that_says(speed_mps, end):
    """The guard publishes its stop anew in every step, and the simulated ego brakes late."""
    ego = Ego(np.zeros(4), speed_mps, Flat())
    while ego.state[StateIndex.VX] > 0.1 and ego.step < 100:
        now_ns = ego.ego_state.stamp_ns
        plan = trajectory_plan(now_ns, np.array([end]), now_ns, ego.state)
        ego.follow(plan.poses_m, plan.dt_s, plan.start_m)
        ego.advance()
        turned = ego.state[StateIndex.HEADING] / end[2]
        assert -0.01 < turned < 1.6
    assert ego.step < 100
    assert abs(ego.state[StateIndex.Y]) < 0.6
