from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rap_planner.stop import Stop, StopProfile
from rap_planner.trajectory import Trajectory, along_paths, dense_times, interpolate_poses
from rap_raster.ego_history import EgoState

DT_S, STEPS = 0.5, 10
TIMES_S = dense_times(DT_S * STEPS)


def ego(speed_mps: float, yaw_rad: float = 0.0, yaw_rate_radps: float = 0.0) -> EgoState:
    return EgoState(0, 10.0, -20.0, 0.0, yaw_rad, speed_mps, 0.0, yaw_rate_radps)


def test_times_are_tenths_of_a_second_up_to_the_horizon():
    np.testing.assert_allclose(TIMES_S, [0.1 * k for k in range(1, 51)])


@pytest.mark.parametrize("yaw_rad", [0.0, 1.0, 3.1, -3.1])
def test_constant_speed_straight_ahead_is_exact(yaw_rad):
    start = ego(8.0, yaw_rad)
    direction = np.array([np.cos(yaw_rad), np.sin(yaw_rad)])

    def exact(times_s):
        xy = [10.0, -20.0] + 8.0 * np.outer(times_s, direction)
        return np.concatenate([xy, np.full((len(times_s), 1), yaw_rad)], axis=1)

    poses = exact(DT_S * np.arange(1, STEPS + 1))
    np.testing.assert_allclose(
        interpolate_poses(start, poses, DT_S, TIMES_S), exact(TIMES_S), atol=1e-9
    )


def test_a_circle_is_followed_within_centimetres_and_its_heading_within_a_milliradian():
    """10 m/s on a radius of 25 m, across the +-pi seam of the heading.

    The last half second is less exact, because the slope at its end is extrapolated.
    """
    radius_m, rate = 25.0, 0.4
    start = ego(10.0, 2.5, rate)

    def exact(times_s):
        yaw = 2.5 + rate * times_s
        x = 10.0 + radius_m * (np.sin(yaw) - np.sin(2.5))
        y = -20.0 - radius_m * (np.cos(yaw) - np.cos(2.5))
        return np.stack([x, y, yaw], axis=1)

    poses = exact(DT_S * np.arange(1, STEPS + 1))
    poses[:, 2] = (poses[:, 2] + np.pi) % (2 * np.pi) - np.pi
    dense = interpolate_poses(start, poses, DT_S, TIMES_S)
    error = np.abs(dense - exact(TIMES_S))
    assert error[:-5, :2].max() < 0.006
    assert error[-5:, :2].max() < 0.015
    assert error[:, 2].max() < 1e-3


def test_a_vehicle_that_stops_does_not_overshoot_and_stands_still():
    """A plain spline through these poses swings 0.15 m beyond the stopping point."""
    x_m = np.array([14.0, 16.0, 17.0, 17.0, 17.0, 17.0, 17.0, 17.0, 17.0, 17.0])
    poses = np.stack([x_m, np.full(10, -20.0), np.zeros(10)], axis=1)
    dense = interpolate_poses(ego(9.0), poses, DT_S, TIMES_S)
    assert dense[:, 0].max() <= 17.0 + 1e-9
    np.testing.assert_allclose(dense[14:, 0], 17.0)
    assert (np.diff(dense[:, 0]) >= -1e-9).all()


def test_a_standing_vehicle_stands_still_even_with_a_noisy_speed():
    poses = np.tile([10.0, -20.0, 0.3], (STEPS, 1))
    dense = interpolate_poses(ego(0.4, 0.3), poses, DT_S, TIMES_S)
    np.testing.assert_allclose(dense, np.tile([10.0, -20.0, 0.3], (50, 1)), atol=1e-12)


@given(st.lists(st.floats(0, 15), min_size=STEPS, max_size=STEPS), st.floats(0, 30))
def test_progress_is_monotone_for_any_forward_steps(steps_m, speed_mps):
    x_m = 10.0 + np.cumsum(steps_m)
    poses = np.stack([x_m, np.full(STEPS, -20.0), np.zeros(STEPS)], axis=1)
    dense = interpolate_poses(ego(speed_mps), poses, DT_S, TIMES_S)
    assert (np.diff(dense[:, 0]) >= -1e-9).all()
    np.testing.assert_allclose(dense[4::5], poses, atol=1e-9)


@pytest.mark.parametrize("speed_mps", [0.0, 0.5, 5.0, 20.0])
def test_a_stop_obeys_the_limits_on_deceleration_and_jerk_and_ends_standing(speed_mps):
    profile = StopProfile(speed_mps, 2.5, 1.5)
    dt_s = 1e-3
    times_s = np.arange(0.0, profile.duration_s + 1.0, dt_s)
    distance_m = profile.distance_m(times_s)
    speed = np.diff(distance_m) / dt_s
    acceleration = np.diff(speed) / dt_s
    jerk = np.diff(acceleration) / dt_s
    assert speed[0] == pytest.approx(speed_mps, abs=1e-2)
    assert speed[-1] == pytest.approx(0.0, abs=1e-6)
    assert speed.min() > -1e-6
    assert acceleration.min() > -2.5 - 1e-3
    assert np.abs(jerk).max() < 1.5 + 1e-2


@pytest.mark.parametrize("begin_mps2", [0.0, 1.0, 4.0])
def test_a_stop_knows_speed_and_deceleration_on_its_way(begin_mps2):
    profile = StopProfile(12.0, 2.5, 1.5, begin_mps2)
    dt_s = 1e-3
    for time_s in np.linspace(0.1, profile.duration_s - 0.1, 23):
        around_m = profile.distance_m(time_s + dt_s * np.array([-1.0, 0.0, 1.0]))
        speed_mps = (around_m[2] - around_m[0]) / (2.0 * dt_s)
        braking_mps2 = -np.diff(around_m, 2)[0] / dt_s**2
        assert profile.after(time_s) == pytest.approx(
            (around_m[1], speed_mps, braking_mps2), abs=2e-3
        )
    assert profile.after(60.0) == pytest.approx((profile.length_m, 0.0, 0.0), abs=1e-6)


@pytest.mark.parametrize("elapsed_s", [0.0, 0.05, 0.1, 0.2, 0.33])
def test_a_stop_begins_with_the_speed_and_braking_of_its_plan(elapsed_s):
    speed_mps, braking_mps2 = 10.0, 4.0
    times_s = 0.1 * np.arange(1, 51)
    moving_s = np.minimum(times_s, speed_mps / braking_mps2)
    x_m = speed_mps * moving_s - 0.5 * braking_mps2 * moving_s**2
    plan = Trajectory(0, np.column_stack([x_m, np.zeros((50, 2))]), 0.0)
    stop = Stop.along(plan, round(elapsed_s * 1e9), 2.5, 1.5)
    assert stop.profile.begin_mps2 == pytest.approx(braking_mps2, abs=1e-6)
    assert stop.profile.speed_mps == pytest.approx(speed_mps - braking_mps2 * elapsed_s, abs=1e-6)


@pytest.mark.parametrize("later_s", [0.05, 1.0, 4.0, 5.5, 6.9])
def test_a_stop_that_is_begun_anew_goes_on_where_it_is_however_late(later_s):
    """A gentle one from 15 m/s takes 7.7 s, longer than what is published of it."""
    x_m = 15.0 * 0.1 * np.arange(1, 51)
    plan = Trajectory(0, np.column_stack([x_m, np.zeros((50, 2))]), 0.0)
    stop = Stop.along(plan, 0, 2.5, 1.5)
    now_ns = round(later_s * 1e9)
    anew = stop.anew(now_ns, 7.0, 15.0)
    first_m = anew.poses_m[0, 0]
    assert first_m == pytest.approx(stop.profile.distance_m(np.array([later_s]))[0])
    assert anew.profile.begin_mps2 == pytest.approx(stop.profile.after(later_s)[2], abs=0.05)
    steps_m = np.diff(anew.poses_m[:, 0])
    assert steps_m[0] / 0.1 == pytest.approx(stop.profile.after(later_s + 0.05)[1], abs=0.1)
    assert (steps_m >= -1e-9).all()
    assert anew.poses_m[-1, 0] <= stop.begin_m + stop.profile.length_m + 1e-6
    assert anew.fits == stop.fits


def test_a_long_stop_takes_the_textbook_distance():
    """v^2 / 2a plus v a / 2j for the two ramps."""
    profile = StopProfile(20.0, 2.5, 1.5)
    expected_m = 20.0**2 / 5.0 + 20.0 * 2.5 / 3.0
    assert profile.distance_m(np.array([100.0]))[0] == pytest.approx(expected_m)


def test_distances_along_a_path_follow_it_and_go_on_straight_past_its_end():
    path = np.array([[0.0, 0.0, 0.0], [10.0, 0.0, np.pi / 2], [10.0, 5.0, np.pi / 2]])
    poses = along_paths(path[None], np.array([[5.0, 12.0, 18.0]]))[0]
    np.testing.assert_allclose(poses[:, :2], [[5.0, 0.0], [10.0, 2.0], [10.0, 8.0]], atol=1e-9)


def test_a_path_of_one_place_keeps_the_vehicle_there():
    path = np.tile([3.0, 4.0, 0.5], (5, 1))
    np.testing.assert_allclose(along_paths(path[None], np.zeros((1, 3)))[0], path[:3])
