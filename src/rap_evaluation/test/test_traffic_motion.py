from __future__ import annotations

import numpy as np
import pytest

from rap_evaluation.traffic.curve_speed import SpeedProfile, braked, speed_profile
from rap_evaluation.traffic.motion import follow
from rap_raster.vehicle import REAR_AXLE_TO_CENTER_SHARE

DT_S = 0.1


def circle(radius_m, speed_mps, seconds):
    angle = np.arange(0.0, seconds, DT_S) * speed_mps / radius_m
    points = radius_m * np.stack([np.sin(angle), 1.0 - np.cos(angle)], axis=-1)
    return points, np.full(len(points), speed_mps)


def test_vehicle_on_a_line_moves_half_a_length_behind_its_front():
    x = np.arange(0.0, 10.0, DT_S) * 8.0
    motion = follow(np.stack([x, 0 * x], axis=-1), np.full(len(x), 8.0), 0.0, 4.0, DT_S)
    np.testing.assert_allclose(motion[:, 0], x - 2.0, atol=1e-6)
    np.testing.assert_allclose(motion[:, 1:3], 0.0, atol=1e-9)
    np.testing.assert_allclose(motion[:, 3], 8.0, atol=1e-6)


def test_vehicle_on_a_circle_turns_evenly_without_side_slip():
    """Centre on the circle; heading lags by asin(d / R), d from rear axle to centre."""
    radius, speed, length = 20.0, 6.0, 5.0
    fronts, speeds = circle(radius, speed, 20.0)
    motion = follow(fronts, speeds, 0.0, length, DT_S)[80:-5]
    to_center = np.hypot(motion[:, 0], motion[:, 1] - radius)
    np.testing.assert_allclose(to_center, radius, atol=0.05)
    np.testing.assert_allclose(motion[:, 5], speed / radius, atol=2e-3)
    tow = REAR_AXLE_TO_CENTER_SHARE * length
    lateral = -np.sin(motion[:, 2]) * motion[:, 3] + np.cos(motion[:, 2]) * motion[:, 4]
    np.testing.assert_allclose(lateral - motion[:, 5] * tow, 0.0, atol=0.02)
    travel = np.arctan2(motion[:, 4], motion[:, 3])
    lag = np.arcsin(tow / radius)
    np.testing.assert_allclose(np.unwrap(travel - motion[:, 2]), lag, atol=5e-3)


@pytest.mark.parametrize("jump", [(0.0, 3.5), (0.0, -1.0), (1.2, 0.0), (-0.8, 0.0)])
def test_jump_is_spread_over_seconds(jump):
    """Whatever jumps in one step, sideways or along, moves smoothly and arrives."""
    x = np.arange(0.0, 12.0, DT_S) * 10.0
    fronts = np.stack([x, 0 * x], axis=-1)
    fronts[60:] += jump
    motion = follow(fronts, np.full(len(x), 10.0), 0.0, 4.0, DT_S)
    speed = np.hypot(motion[:, 3], motion[:, 4])
    assert np.abs(speed - 10.0).max() < 1.5
    assert np.abs(np.diff(speed)).max() < 0.3
    assert np.abs(motion[:, 5]).max() < 0.6
    np.testing.assert_allclose(motion[110, :2], fronts[110] - [2.0, 0.0], atol=0.02)


def test_standing_vehicle_keeps_its_place_and_heading():
    fronts = np.tile([3.0, 4.0], (30, 1))
    motion = follow(fronts, np.zeros(30), np.pi / 2, 4.0, DT_S)
    np.testing.assert_allclose(motion[:, :3], np.tile([3.0, 2.0, np.pi / 2], (30, 1)), atol=1e-9)
    np.testing.assert_allclose(motion[:, 3:], 0.0, atol=1e-9)


def test_bend_limits_the_speed_by_lateral_acceleration():
    fronts, _ = circle(20.0, 1.0, 40.0)
    speeds = speed_profile(fronts).speeds_mps
    np.testing.assert_allclose(speeds[8:-8], np.sqrt(2.5 * 20.0), rtol=0.03)
    straight = speed_profile(np.array([[0.0, 0.0], [50.0, 0.0]]))
    assert straight.at(25.0) > 100.0


def test_drivers_brake_before_a_slow_place():
    """v^2 = 25 + 2 * 1.5 * distance: the profile of braking at 1.5 m/s^2 to 5 m/s."""
    profile = SpeedProfile(np.full(100, 40.0))
    profile.speeds_mps[60] = 5.0
    lowered = braked(profile, np.inf)
    expected = np.sqrt(25.0 + 3.0 * (60 - np.arange(61)))
    np.testing.assert_allclose(lowered.speeds_mps[:61], expected)
    np.testing.assert_allclose(lowered.speeds_mps[61:], 40.0)
    assert braked(profile, 3.0).speeds_mps[99] == pytest.approx(np.sqrt(9.0 + 3.0))
