"""What a vehicle with a lag makes of trajectories: closed form, and a finer integration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rap_planner.response import Response, braked

STEP_S = 0.1


def straight(distances_m) -> np.ndarray:
    x = np.asarray(distances_m, dtype=float)
    return np.column_stack([x, np.zeros((len(x), 2))])[None]


def test_who_is_to_stand_at_once_rolls_on_for_speed_times_response():
    """u = v0 exp(-t / tau), whose integral is v0 tau."""
    late = Response(0.4).driven(straight(np.zeros(80)), speed_mps=6.0)[0]
    t = STEP_S * np.arange(80)
    np.testing.assert_allclose(late[:, 0], 6.0 * 0.4 * (1.0 - np.exp(-t / 0.4)), atol=1e-9)


@given(
    st.floats(2.0, 15.0),
    st.floats(1.0, 8.0),
    st.floats(0.05, 1.5),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_braking_is_that_of_a_finer_integration(speed_mps, braking_mps2, delay_s, preview_s):
    t = STEP_S * np.arange(41)
    planned = np.maximum(speed_mps - braking_mps2 * t, 0.0)
    distances = np.concatenate([[0.0], np.cumsum(0.5 * STEP_S * (planned[1:] + planned[:-1]))])
    late = Response(delay_s, preview_s).driven(straight(distances), speed_mps)[0, :, 0]
    u, x, dt_s, fine = speed_mps, 0.0, 1e-3, []
    for k in range(4001):
        if k % 100 == 0:
            fine.append(x)
        x += u * dt_s
        seen_s = min(k * dt_s + preview_s, 4.0)
        u += dt_s / delay_s * (max(speed_mps - braking_mps2 * seen_s, 0.0) - u)
    np.testing.assert_allclose(late, np.maximum(fine, distances), atol=0.06 + 0.05 * braking_mps2)


def test_who_fell_behind_while_gaining_speed_brakes_from_where_the_plan_is():
    """The same braking, whether the vehicle gained speed before or had it."""
    t = STEP_S * np.arange(41)
    gained = 5.0 * np.minimum(t, 1.5) + 0.5 * 4.0 * np.minimum(t, 1.5) ** 2
    braking_s = np.clip(t - 1.5, 0.0, 11.0 / 6.0)
    planned = gained + 11.0 * braking_s - 0.5 * 6.0 * braking_s**2
    late = Response(0.5).driven(straight(planned), 5.0)[0, :, 0]
    from_there = Response(0.5).driven(straight(planned[15:]), 11.0)[0, :, 0]
    assert 0.5 < late[-1] - planned[-1] <= from_there[-1] - planned[-1] + 0.05


def test_who_gains_speed_is_left_where_the_plan_has_it():
    poses = straight(0.5 * 2.0 * (STEP_S * np.arange(31)) ** 2)
    np.testing.assert_array_equal(Response(0.5).driven(poses, 0.0), poses)


@pytest.mark.parametrize("delay_s", [0.0, 0.5])
def test_the_path_is_kept(delay_s):
    """On a circle: farther along it, and past its end straight on."""
    radius = 20.0
    speeds = np.linspace(8.0, 0.0, 31)
    turned = np.concatenate([[0.0], np.cumsum(STEP_S * speeds[:-1])]) / radius
    poses = np.column_stack([radius * np.sin(turned), radius * (1 - np.cos(turned)), turned])
    late = Response(delay_s).driven(poses[None], 8.0)[0]
    on_arc = late[:, 2] < turned[-1]
    away = np.hypot(late[on_arc, 0], late[on_arc, 1] - radius)
    np.testing.assert_allclose(away, radius, atol=0.01)
    beyond = late[~on_arc]
    assert (delay_s == 0.0) == (len(beyond) <= 1)
    np.testing.assert_allclose(beyond[:, 2], turned[-1])


@example(20.0, 1.0)
@given(st.floats(0.5, 20.0), st.floats(1.0, 9.0))
def test_who_brakes_comes_as_far_as_physics_say(speed_mps, braking_mps2):
    """From the begin of braking v^2 / 2a, in v / a; 20 m/s at 1 m/s2 end after 20.5 s."""
    distances = speed_mps * STEP_S * np.arange(211)
    stopped = braked(straight(distances), 0.5, braking_mps2, 21.0)[0, :, 0]
    np.testing.assert_allclose(stopped[:6], distances[:6])
    wanted = 0.5 * speed_mps + speed_mps**2 / (2.0 * braking_mps2)
    assert stopped[-1] == pytest.approx(wanted, abs=0.05)


def test_who_brakes_harder_by_plan_keeps_to_it():
    t = STEP_S * np.arange(31)
    distances = np.where(t < 1.0, 8.0 * t - 4.0 * t**2, 4.0)
    np.testing.assert_array_equal(braked(straight(distances), 0.1, 2.0, 3.0)[0, :, 0], distances)
