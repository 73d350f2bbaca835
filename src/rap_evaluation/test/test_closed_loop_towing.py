from __future__ import annotations

import numpy as np
import pytest

from rap_evaluation.closed_loop.towing import TowedBox

DT_S = 0.1


def towed(fronts, speeds, yaw=0.0, length=4.5):
    """Returns (n, 5) centre, yaw and velocity of a box led along fronts."""
    box = TowedBox(tuple(fronts[0]), yaw, speeds[0], length)
    rows = [(*box.center_m, box.yaw_rad, *box.velocity_mps)]
    for front, speed in zip(fronts[1:], speeds[1:], strict=True):
        box.step(tuple(front), speed, DT_S)
        rows.append((*box.center_m, box.yaw_rad, *box.velocity_mps))
    return np.array(rows)


def straight(steps=100, speed=8.0):
    x = speed * DT_S * np.arange(steps)
    return np.stack([x, np.zeros(steps)], axis=-1), np.full(steps, speed)


def test_straight_on_the_box_is_half_a_length_behind_its_front():
    fronts, speeds = straight()
    rows = towed(fronts, speeds)
    np.testing.assert_allclose(rows[:, 0], fronts[:, 0] - 2.25, atol=1e-9)
    np.testing.assert_allclose(rows[:, 2:], np.tile([0.0, 8.0, 0.0], (100, 1)), atol=1e-9)


def test_a_sideways_jump_becomes_a_lane_change():
    fronts, speeds = straight()
    fronts[30:, 1] += 3.5
    rows = towed(fronts, speeds)
    sideways = np.abs(np.diff(rows[:, 1])) / DT_S
    assert sideways.max() < 4.0  # 3.5 m given in with a time constant of 1 s.
    assert np.abs(rows[:, 2]).max() < np.radians(30.0)
    assert rows[-1, 1] == pytest.approx(3.5, abs=0.05)
    assert rows[-1, 0] == pytest.approx(fronts[-1, 0] - 2.25, abs=0.5)


@pytest.mark.parametrize("yaw", [0.0, 2.0, -3.0])
def test_motion_does_not_depend_on_the_direction(yaw):
    fronts, speeds = straight()
    fronts[30:, 1] += 3.5
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    expected, rows = towed(fronts, speeds), towed(fronts @ turn, speeds, yaw)
    np.testing.assert_allclose(rows[:, :2], expected[:, :2] @ turn, atol=1e-9)


def test_on_a_circle_the_rear_axle_runs_inside_and_does_not_slip():
    radius, speed = 12.0, 6.0
    angle = speed * DT_S / radius * np.arange(400)
    fronts = radius * np.stack([np.sin(angle), -np.cos(angle)], axis=-1)
    rows = towed(fronts, np.full(400, speed))
    settled = rows[200:]
    forward = np.stack([np.cos(settled[:, 2]), np.sin(settled[:, 2])], axis=-1)
    reach = 1.461 / 5.176 * 4.5  # Of the axles from the centre.
    front_axle, axle = settled[:, :2] + reach * forward, settled[:, :2] - reach * forward
    np.testing.assert_allclose(np.hypot(*front_axle.T), radius, atol=0.05)
    step = np.diff(axle, axis=0)
    middle = settled[:-1, 2] + 0.5 * np.diff(np.unwrap(settled[:, 2]))
    slip = -np.sin(middle) * step[:, 0] + np.cos(middle) * step[:, 1]
    assert np.abs(slip).max() < 0.02
    assert np.hypot(*axle.T).max() < radius


def test_who_stands_does_not_turn_or_creep():
    fronts, speeds = np.tile([3.0, 1.0], (50, 1)), np.zeros(50)
    rows = towed(fronts, speeds, yaw=0.7)
    assert np.ptp(rows, axis=0).max() < 1e-12


def test_a_sideways_slide_of_a_standing_vehicle_moves_nothing():
    """SUMO finishes lane changes of vehicles that have stopped half-way."""
    fronts, speeds = straight(20)
    slide = fronts[-1] + np.stack([np.zeros(30), 0.1 * np.arange(1, 31)], axis=-1)
    fronts, speeds = np.concatenate([fronts, slide]), np.concatenate([speeds, np.zeros(30)])
    rows = towed(fronts, speeds)
    assert np.ptp(rows[21:, :3], axis=0).max() < 1e-9
    assert abs(rows[-1, 0] - (fronts[-1, 0] - 2.25)) < 0.5


def test_whoever_is_moved_far_starts_anew():
    fronts, speeds = straight()
    fronts[50:] += [40.0, 7.0]
    rows = towed(fronts, speeds)
    np.testing.assert_allclose(rows[50:, 1], 7.0, atol=1e-9)
    np.testing.assert_allclose(rows[50:, 3], 8.0, atol=1e-9)


def test_a_person_turns_on_the_spot():
    x = np.concatenate([0.13 * np.arange(30), np.full(30, 0.13 * 29)])
    y = np.concatenate([np.zeros(30), 0.13 * np.arange(1, 31)])
    rows = towed(np.stack([x, y], axis=-1), np.full(60, 1.3), length=0.0)
    assert rows[-1, 2] == pytest.approx(np.pi / 2, abs=0.05)
    np.testing.assert_allclose(rows[-1, :2], [x[-1], y[-1]], atol=0.05)
