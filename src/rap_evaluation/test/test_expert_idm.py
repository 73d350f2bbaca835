from __future__ import annotations

import numpy as np
import pytest
import shapely

from rap_evaluation.expert.corridor import covered
from rap_evaluation.expert.forecast import FORECAST_STEPS, LaneForecaster, straight_on
from rap_evaluation.expert.idm import (
    EXPONENT,
    HEADWAY_S,
    MAX_ACCELERATION_MPS2,
    MAX_DECELERATION_MPS2,
    MIN_GAP_M,
    idm_acceleration,
)
from rap_evaluation.metrics.pdm_scene import AgentKind, Agents
from rap_raster.maps.vector_map import Lane

VEHICLE = AgentKind.VEHICLE


@pytest.mark.parametrize("desired_mps", [5.0, 15.0, 30.0])
def test_desired_speed_is_kept_on_a_free_road(desired_mps):
    assert idm_acceleration(desired_mps, desired_mps, np.inf, 0.0) == 0.0
    assert idm_acceleration(0.9 * desired_mps, desired_mps, np.inf, 0.0) > 0.0
    assert idm_acceleration(1.1 * desired_mps, desired_mps, np.inf, 0.0) < 0.0


@pytest.mark.parametrize("speed_mps", [0.0, 3.0, 10.0, 14.0])
def test_equilibrium_gap_is_the_published_one(speed_mps):
    """Treiber et al. 2000, equation 4: s_e(v) = (s0 + v T) / sqrt(1 - (v / v0)^delta)."""
    desired_mps = 15.0
    free = (speed_mps / desired_mps) ** EXPONENT
    gap_m = (MIN_GAP_M + speed_mps * HEADWAY_S) / np.sqrt(1.0 - free)
    here = idm_acceleration(speed_mps, desired_mps, gap_m, speed_mps)
    assert here == pytest.approx(0.0, abs=1e-12)
    assert idm_acceleration(speed_mps, desired_mps, 1.05 * gap_m, speed_mps) > 0.0
    if speed_mps > 0.0:
        assert idm_acceleration(speed_mps, desired_mps, 0.95 * gap_m, speed_mps) < 0.0


def test_accelerations_stay_within_their_bounds():
    values = [
        idm_acceleration(v, 15.0, gap, lead)
        for v in np.linspace(0.0, 40.0, 9)
        for gap in (-3.0, 0.0, 0.5, 2.0, 20.0, np.inf)
        for lead in (0.0, 10.0, 40.0)
    ]
    assert min(values) == -MAX_DECELERATION_MPS2
    assert max(values) == MAX_ACCELERATION_MPS2


def test_who_stands_too_close_stays():
    assert idm_acceleration(0.0, 15.0, 0.2, 0.0) <= 0.0


def test_stations_covered_are_those_of_polygon_intersections():
    """Independent reference: shapely's intersection of each box with the band."""
    rng = np.random.default_rng(4)
    x = np.arange(120.0)
    center = np.column_stack([x, np.zeros_like(x), np.zeros_like(x)])
    middle, half = 0.7, 1.4
    bands = np.broadcast_to([middle, half], (1, len(x), 2)).copy()
    states = np.zeros((60, 1, 5))
    states[:, 0, 0], states[:, 0, 1] = rng.uniform(10.0, 110.0, 60), rng.uniform(-6.0, 6.0, 60)
    states[:, 0, 2] = rng.uniform(-np.pi, np.pi, 60)
    sizes = rng.uniform([0.4, 0.4], [12.0, 2.6], (60, 2))
    extents, _ = covered(center, bands, states, sizes)
    strip = shapely.box(-50.0, middle - half, 200.0, middle + half)
    hits = 0
    for n in range(60):
        part = strip.intersection(_box(states[n, 0], sizes[n]))
        if part.is_empty:
            assert np.isnan(extents[0, n, 0]).all()
        else:
            hits += 1
            assert extents[0, n, 0] == pytest.approx([part.bounds[0], part.bounds[2]], abs=1e-9)
    assert 10 < hits < 50


def test_absent_agents_are_left_out_of_forecasts():
    states = np.zeros((2, 3, 5))
    states[0, 0] = np.nan
    agents = Agents(("gone", "here"), np.zeros(2, np.uint8), np.ones((2, 2)), states)
    forecast = straight_on(agents)
    assert forecast.tokens == ("here",)
    assert forecast.states.shape == (1, FORECAST_STEPS, 5)


def test_vehicles_are_expected_to_follow_a_bend():
    """On a circle the forecast stays on the circle, box and all; straight on leaves it."""
    radius_m, speed_mps = 20.0, 8.0
    angle = np.linspace(0.0, np.pi, 80)
    circle = radius_m * np.stack([np.sin(angle), 1.0 - np.cos(angle)], axis=-1)
    lanes = {"bend": Lane("bend", np.column_stack([circle, np.zeros(80)]))}
    states = np.array([[[0.0, 0.0, 0.0, speed_mps, 0.0]]])
    agents = Agents(("a",), np.array([VEHICLE], np.uint8), np.array([[4.5, 1.9]]), states)
    along = LaneForecaster(lanes)(agents).states[0]
    distance = np.hypot(along[:, 0], along[:, 1] - radius_m)
    assert distance == pytest.approx(radius_m, abs=0.1)
    steps = np.hypot(*np.diff(along[:, :2], axis=0).T)
    assert steps == pytest.approx(0.1 * speed_mps, rel=0.05)
    # A box is towed: its heading lags behind the tangent by the angle of its rod on the circle.
    tangent = 0.1 * speed_mps * (FORECAST_STEPS - 1) / radius_m
    lag = np.arcsin(4.5 * 1.461 / 5.176 / radius_m)
    assert along[-1, 2] == pytest.approx(tangent - lag, abs=0.05)
    straight = straight_on(agents).states[0]
    assert np.hypot(*(straight[-1, :2] - [0.0, radius_m])) > 1.5 * radius_m


def test_forecast_goes_on_over_the_straightest_lane():
    ahead = np.column_stack([np.linspace(20.0, 120.0, 20), np.zeros(20), np.zeros(20)])
    aside = np.column_stack([np.linspace(20.0, 40.0, 20), np.linspace(0, 20.0, 20) ** 2 / 20.0])
    lanes = {
        "in": Lane("in", np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 0.0]]), successors=("l", "s")),
        "l": Lane("l", np.column_stack([aside, np.zeros(20)])),
        "s": Lane("s", ahead),
    }
    states = np.array([[[10.0, 0.0, 0.0, 10.0, 0.0]]])
    agents = Agents(("a",), np.array([VEHICLE], np.uint8), np.array([[4.5, 1.9]]), states)
    last = LaneForecaster(lanes)(agents).states[0, -1]
    assert last[:2] == pytest.approx([60.0, 0.0], abs=0.1)


def _box(state, size):
    x, y, heading = state[:3]
    corners = 0.5 * size * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    cos, sin = np.cos(heading), np.sin(heading)
    return shapely.Polygon(corners @ np.array([[cos, sin], [-sin, cos]]) + [x, y])
