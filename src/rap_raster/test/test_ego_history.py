from __future__ import annotations

import numpy as np
import pytest

from rap_raster.ego_history import EgoHistory, EgoState, extrapolated

SPEED, TURN = 8.0, 0.2


def on_circle(t_s: float) -> EgoState:
    """A vehicle on a circle of radius 40 m: the analytic answer to every look-up."""
    yaw, radius = TURN * t_s, SPEED / TURN
    return EgoState(
        stamp_ns=round(t_s * 1e9),
        x_m=radius * np.sin(yaw),
        y_m=radius * (1 - np.cos(yaw)),
        z_m=0.0,
        yaw_rad=yaw,
        vx_mps=SPEED,
        vy_mps=0.0,
        yaw_rate_radps=TURN,
    )


def recorded(times_s) -> EgoHistory:
    history = EgoHistory()
    for t_s in times_s:
        history.add(on_circle(t_s))
    return history


def assert_same(state, expected, atol=1e-2):
    assert state is not None
    np.testing.assert_allclose(state.planar, expected.planar, atol=atol)


def test_interpolation_is_by_stamp_however_irregular_the_samples():
    rng = np.random.default_rng(3)
    history = recorded(np.cumsum(rng.uniform(0.01, 0.12, 60)))
    for t_s in (1.0, 1.53, 2.219):
        assert_same(history.at(round(t_s * 1e9)), on_circle(t_s))


def test_a_lagging_odometry_is_continued_along_the_arc_for_two_periods_only():
    history = recorded([0.0, 0.1, 0.2])
    assert_same(history.at(round(0.39e9)), on_circle(0.39), atol=1e-3)
    assert history.at(round(0.5e9)) is None


def test_times_before_the_first_sample_have_no_state():
    assert recorded([1.0, 1.1]).at(round(0.9e9)) is None


def test_a_gap_is_not_bridged():
    assert recorded([0.0, 0.1, 2.0]).at(round(1.0e9)) is None


def test_time_jumping_back_starts_the_history_anew():
    history = recorded([5.0, 5.1])
    history.add(on_circle(1.0))
    assert history.at(round(5.05e9)) is None
    assert history.latest == on_circle(1.0)


def test_a_small_jump_back_is_noticed_at_the_second_state():
    """A clock that was set back by 0.5 s: what came before belongs to another time."""
    history = recorded([5.0, 5.1, 4.6, 4.7])
    assert history.latest == on_circle(4.7)
    assert history.at(round(5.05e9)) is None


@pytest.mark.parametrize("times_s", [[0.0, 0.2, 0.1, 0.3], [0.2, 0.1, 0.0, 0.3], [0.0, 0.1, 0.1]])
def test_late_and_repeated_states_change_nothing(times_s):
    history = recorded(times_s)
    assert_same(history.at(round(0.05e9)), on_circle(0.05))
    assert history.latest == on_circle(max(times_s))


def test_old_states_are_forgotten():
    history = EgoHistory(max_age_s=1.0)
    for t_s in np.arange(0.0, 3.0, 0.1):
        history.add(on_circle(t_s))
    assert history.at(round(1.0e9)) is None


def test_network_input_is_in_the_ego_frame_of_now_oldest_first():
    rows = recorded(np.arange(0.0, 3.01, 0.1)).network_input(round(3.0e9), steps=4, dt_s=0.5)
    np.testing.assert_allclose(rows[-1], [0, 0, 0, SPEED, 0, TURN, 1], atol=1e-5)
    # Half a second earlier on a circle of radius 40 m, seen from the end of the arc.
    back = -TURN * 0.5
    expected = [40 * np.sin(back), 40 * (1 - np.cos(back)), back]
    np.testing.assert_allclose(rows[-2, :3], expected, atol=1e-2)


def test_rows_before_the_start_are_marked_invalid_not_zero_motion():
    rows = recorded(np.arange(0.0, 0.61, 0.1)).network_input(round(0.6e9), steps=4, dt_s=0.5)
    np.testing.assert_array_equal(rows[:, 6], [0, 0, 1, 1])


def test_history_without_now_is_an_error():
    with pytest.raises(ValueError, match="no ego state"):
        EgoHistory().network_input(0, steps=2, dt_s=0.5)


def test_extrapolation_follows_the_analytic_circle():
    assert_same(extrapolated(on_circle(0.0), round(0.2e9)), on_circle(0.2), atol=1e-3)
