from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import savgol_filter

from rap_evaluation.metrics.comfort import (
    extended_comfort_rms,
    future_comfort_flags,
    history_comfort_flags,
    history_samples,
    is_extended_comfortable,
    savitzky_golay,
)
from rap_evaluation.metrics.pdm_scene import DT_S, STATES, StateIndex

REAR_AXLE_TO_CENTER_M = 1.461
LONGITUDINAL, LATERAL, JERK, LONGITUDINAL_JERK, YAW_ACCELERATION, YAW_RATE = range(6)


@pytest.fixture(scope="module")
def pdm_cases():
    path = Path(__file__).parent / "cases" / "pdm.json.gz"
    return json.loads(gzip.decompress(path.read_bytes()))["cases"]


def states(count=STATES, **columns):
    """Returns a plan that stands at the origin, apart from the given columns."""
    plan = np.zeros((1, count, len(StateIndex)))
    for name, values in columns.items():
        plan[..., StateIndex[name.upper()]] = values
    return plan


def sampled_history(case):
    rows = case["input"]["ego_history"]
    names = ("x", "y", "heading", "vx", "vy", "ax", "ay")
    columns = np.array([[row[name] for name in names] for row in rows])
    return history_samples(np.array([row["t"] for row in rows]), columns)


def test_flags_equal_the_official_ones(pdm_cases):
    compared = uncomfortable = 0
    for case in pdm_cases:
        history = sampled_history(case)
        debug = case["debug"]["candidates"].values()
        plans = np.array([candidate["simulated_states"] for candidate in debug])
        past = np.broadcast_to(history, (len(plans), *history.shape))
        got = {"v1": future_comfort_flags(plans)}
        got["v2"] = history_comfort_flags(
            np.concatenate([past, plans], axis=1), rear_axle_to_center_m=REAR_AXLE_TO_CENTER_M
        )
        for row, candidate in enumerate(debug):
            expected = [
                ("v1", candidate["v1"]["comfort_flags_future_only"]),
                *(
                    ("v2", candidate[traffic]["history_comfort_flags"])
                    for traffic in ("v2_non_reactive", "v2_reactive")
                    if traffic in candidate
                ),
            ]
            for version, flags in expected:
                assert got[version][row].astype(int).tolist() == flags
                compared += 1
                uncomfortable += 0 in flags
    assert compared == 891
    assert uncomfortable > 100  # The comparison would be empty if all were comfortable.


@pytest.mark.parametrize(
    ("window", "order", "derivative"), [(8, 2, 0), (41, 2, 1), (15, 2, 1), (5, 2, 1), (5, 3, 2)]
)
def test_filter_is_that_of_scipy(window, order, derivative):
    values = np.random.default_rng(window).normal(size=(3, STATES))
    expected = savgol_filter(values, window, order, deriv=derivative, delta=DT_S)
    got = savitzky_golay(values, window, order=order, derivative=derivative)
    np.testing.assert_allclose(got, expected, atol=1e-8)
    np.testing.assert_array_equal(got, np.round(got, 8))


@pytest.mark.parametrize(
    ("columns", "flag"),
    [
        ({"ax": 2.40}, LONGITUDINAL),
        ({"ax": -4.05}, LONGITUDINAL),
        ({"ay": -4.89}, LATERAL),
        ({"heading": 0.95 * np.arange(STATES) * DT_S}, YAW_RATE),
        ({"heading": 1.93 / 2 * ((np.arange(STATES) - 20) * DT_S) ** 2}, YAW_ACCELERATION),
    ],
)
def test_bounds_are_strict(columns, flag):
    """Polynomials pass the filters unchanged, so a signal can be put exactly on its bound."""
    within = states(**{name: 0.999 * value for name, value in columns.items()})
    at_bound = states(**columns)
    assert future_comfort_flags(within)[0, flag]
    assert not future_comfort_flags(at_bound)[0, flag]


@pytest.mark.parametrize(
    ("column", "bound_mps3", "flag"), [("ay", 8.37, JERK), ("ax", 4.13, LONGITUDINAL_JERK)]
)
def test_jerk_bounds(column, bound_mps3, flag):
    """The even window shifts a ramp by half a sample except at its ends: 5 % is not yet a jerk."""
    for factor, comfortable in ((0.95, True), (1.05, False)):
        ramp = factor * bound_mps3 * np.arange(STATES) * DT_S
        assert future_comfort_flags(states(**{column: ramp}))[0, flag] == comfortable


def test_a_batch_is_judged_as_its_plans_one_by_one():
    plans = np.random.default_rng(0).normal(scale=0.5, size=(8, 55, len(StateIndex)))
    together = history_comfort_flags(plans, rear_axle_to_center_m=REAR_AXLE_TO_CENTER_M)
    alone = [
        history_comfort_flags(plan[None], rear_axle_to_center_m=REAR_AXLE_TO_CENTER_M)[0]
        for plan in plans
    ]
    np.testing.assert_array_equal(together, alone)


def test_history_comfort_has_both_terms_of_a_rotation_on_x():
    """0.8^2 + 1.0 at 1.461 m is 2.396: just below the bound of 2.40; 0.81 and 1.0 is above."""
    below = states(55, angular_velocity=0.8, angular_acceleration=1.0)
    above = states(55, angular_velocity=0.81, angular_acceleration=1.0)
    for plan, expected in ((below, True), (above, False)):
        flags = history_comfort_flags(plan, rear_axle_to_center_m=REAR_AXLE_TO_CENTER_M)[0]
        assert flags[LONGITUDINAL] == expected
        assert flags[LATERAL]


def test_history_is_sampled_from_minus_1_5_to_minus_0_2_s():
    times = np.array([-1.5, -1.0, -0.5, 0.0])
    rows = np.zeros((4, 7))
    rows[:, StateIndex.X] = 10.0 * times
    rows[:, StateIndex.HEADING] = np.array([3.0, 3.1, 3.2 - 2 * np.pi, 3.3 - 2 * np.pi])
    samples = history_samples(times, rows)
    expected = np.arange(-15, -1) * 0.1
    np.testing.assert_allclose(samples[:, StateIndex.X], 10.0 * expected, atol=1e-12)
    np.testing.assert_allclose(samples[:, StateIndex.HEADING], 3.3 + 0.2 * expected, atol=1e-12)
    assert not samples[:, StateIndex.STEERING_ANGLE :].any()


@pytest.mark.parametrize("times", [[], [-0.1, 0.0], [-1.5, -1.0, -0.5]])
def test_short_history_is_refused(times):
    with pytest.raises(ValueError, match=r"ego_history: expected states from -0\.2 s"):
        history_samples(np.array(times), np.zeros((len(times), 7)))


def test_extended_comfort_of_equal_plans_is_perfect_whatever_turn_their_heading_counts():
    plan = np.random.default_rng(1).normal(size=(36, len(StateIndex)))
    turned = plan.copy()
    turned[:, StateIndex.HEADING] += 2 * np.pi
    assert set(extended_comfort_rms(plan, plan).values()) == {0.0}
    assert max(extended_comfort_rms(plan, turned).values()) < 1e-7


@pytest.mark.parametrize(
    ("column", "values", "limit"),
    [
        ("ax", 0.7, "acceleration"),
        ("heading", 0.1 * np.arange(16) * DT_S, "yaw_rate"),
        ("heading", 0.05 * ((np.arange(16) - 7.5) * DT_S) ** 2, "yaw_accel"),
    ],
)
def test_extended_comfort_limits(column, values, limit):
    still = states(16)[0]
    within = states(16, **{column: 0.99 * values})[0]
    beyond = states(16, **{column: 1.01 * values})[0]
    assert is_extended_comfortable(extended_comfort_rms(within, still))
    rms = extended_comfort_rms(beyond, still)
    assert not is_extended_comfortable(rms)
    assert is_extended_comfortable({**rms, limit: 0.0})
