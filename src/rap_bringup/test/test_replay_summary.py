"""Figures of a replay on drives for which they are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rap_bringup.summary import (
    DrivenPath,
    Plan,
    constant_velocity_error_m,
    count_sources,
    largest_gap_s,
    percentiles_ms,
    plan_error_m,
    summarize,
)
from rap_raster.ego_history import EgoState

S = 1_000_000_000


def straight(seconds: float, speed_mps: float = 10.0, yaw_rad: float = 0.0) -> DrivenPath:
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return DrivenPath(
        [
            EgoState(
                round(t * S), speed_mps * t * cos, speed_mps * t * sin, 0, yaw_rad, speed_mps, 0, 0
            )
            for t in np.arange(0, seconds + 1e-9, 0.1)
        ]
    )


def circle(radius_m: float, speed_mps: float) -> DrivenPath:
    rate = speed_mps / radius_m
    return DrivenPath(
        [
            EgoState(
                round(t * S),
                radius_m * np.sin(rate * t),
                radius_m * (1 - np.cos(rate * t)),
                0,
                rate * t,
                speed_mps,
                0,
                rate,
            )
            for t in np.arange(0, 4, 0.02)
        ]
    )


def plan(points, stamp_ns=0, dt_s=0.5, source="route") -> Plan:
    return Plan(stamp_ns, dt_s, np.asarray(points, float), source, 5.0)


@given(st.floats(-3, 3), st.floats(0.5, 30))
def test_constant_velocity_is_exact_on_a_straight_drive(yaw_rad, speed_mps):
    path = straight(3.0, speed_mps, yaw_rad)
    assert constant_velocity_error_m(0, path) == pytest.approx(0, abs=1e-6)


def test_constant_velocity_error_on_a_circle_is_the_analytic_one():
    """Chord error of going straight: mean over t of |(v t, 0) - R (sin wt, 1 - cos wt)|."""
    radius_m, speed_mps = 30.0, 10.0
    t = np.arange(1, 7) * 0.5
    turned = speed_mps * t / radius_m
    dx, dy = speed_mps * t - radius_m * np.sin(turned), radius_m * (1 - np.cos(turned))
    expected = np.hypot(dx, dy).mean()
    error = constant_velocity_error_m(0, circle(radius_m, speed_mps))
    assert error == pytest.approx(expected, abs=2e-3)


def test_a_plan_beside_the_path_is_wrong_by_its_offset():
    points = [(10 * t, 1.5) for t in np.arange(1, 11) * 0.5]
    assert plan_error_m(plan(points), straight(6.0)) == pytest.approx(1.5)


def test_a_plan_with_coarser_poses_is_interpolated():
    points = [(10 * t, 0.0) for t in np.arange(1, 6) * 1.0]
    assert plan_error_m(plan(points, dt_s=1.0), straight(6.0)) == pytest.approx(0.0, abs=1e-9)


def test_only_the_first_three_seconds_count():
    points = [(10 * t, 0.0 if t <= 3 else 99.0) for t in np.arange(1, 11) * 0.5]
    assert plan_error_m(plan(points), straight(6.0)) == pytest.approx(0.0, abs=1e-9)


def test_steps_without_three_seconds_of_driven_path_do_not_count():
    points = [(10 * t, 0.0) for t in np.arange(1, 11) * 0.5]
    assert plan_error_m(plan(points, stamp_ns=S), straight(3.9)) is None
    assert plan_error_m(plan(points[:5]), straight(6.0)) is None


def test_a_hole_in_the_odometry_is_not_bridged():
    states = [EgoState(round(t * S), 0, 0, 0, 0, 0, 0, 0) for t in (0, 0.1, 0.2, 2.0, 3.1)]
    assert constant_velocity_error_m(0, DrivenPath(states)) is None


@pytest.mark.parametrize(
    ("answered", "expected"),
    [([0, 1, 2, 3], 1.0), ([0, 3], 3.0), ([1, 2], 1.0), ([3], 3.0), ([0], 3.0), ([], None)],
)
def test_largest_gap_counts_the_ends_of_the_drive_too(answered, expected):
    steps = [k * S for k in range(4)]
    assert largest_gap_s(steps, [k * S for k in answered]) == expected


def test_percentiles_of_a_hundred_latencies():
    assert percentiles_ms([float(k) for k in range(101)]) == {"p50": 50.0, "p99": 99.0}
    assert percentiles_ms([]) == {"p50": None, "p99": None}


def test_sources_are_counted_by_slot():
    assert count_sources([[1, 2, 0], [1, 1, 2]]) == {"camera": 3, "raster": 2, "missing": 1}


def test_summary_ignores_trajectories_that_answer_no_step():
    steps = [k * S // 10 for k in range(10)]
    latencies = {steps[0]: 20.0, steps[5]: 30.0, 77: 1.0}
    on_path = [(10 * t, 0.0) for t in np.arange(1, 11) * 0.5]
    summary = summarize(
        steps_ns=steps,
        latencies_ms=latencies,
        plans=[plan(on_path), plan(on_path, stamp_ns=77, source="none")],
        sources=[[2, 2, 2]],
        path=straight(6.0),
    )
    assert (summary["steps"], summary["trajectories"]) == (10, 2)
    assert summary["max_gap_s"] == 0.5
    assert summary["latency_ms"] == {"p50": 25.0, "p99": 29.9}
    assert summary["command_source"] == "route"
    assert summary["ade_3s_m"] == summary["ade_3s_constant_velocity_m"] == 0.0
    assert summary["ade_steps"] == 1


def test_summary_without_a_driven_path_has_no_error_rather_than_zero():
    summary = summarize(steps_ns=[0], latencies_ms={}, plans=[], sources=[], path=straight(0.2))
    assert summary["ade_3s_m"] is None
    assert summary["ade_3s_constant_velocity_m"] is None
    assert summary["max_gap_s"] is None
    assert summary["command_source"] == "none"
