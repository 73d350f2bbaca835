from __future__ import annotations

import numpy as np
import pytest
import shapely
import torch
from scipy.integrate import solve_ivp

from rap_evaluation.closed_loop.ego import Ego
from rap_evaluation.metrics.pdm_scene import StateIndex
from rap_evaluation.metrics.pdm_simulator import MAX_STEERING_RAD
from rap_planner.bicycle import BicycleLimits, demands
from rap_planner.route import route_ahead
from rap_planner.trajectory import interpolate_poses
from rap_raster.frames import Pose, to_parent
from rap_training.model.route_following import (
    STEERING_LEAD_S,
    driven,
    follow,
    read_route,
    within_bends,
)

SPACING_M = 2.5
DT_S = 0.5
LIMITS = BicycleLimits(max_steering_rad=MAX_STEERING_RAD)
FRONT_M = 4.05
"""Of the vehicle, from its rear axle."""


def route_of(line: shapely.LineString, known: int = 30) -> torch.Tensor:
    """Returns the (1, 30, 3) route ahead of an ego at the start of a line."""
    points = [line.interpolate(SPACING_M * i).coords[0] for i in range(30)]
    route = torch.tensor([[[x, y, 1.0] for x, y in points]])
    route[:, known:] = 0.0
    return route


def constant(speed_mps: float) -> torch.Tensor:
    return torch.full((1, 1, 11), speed_mps)


def followed(
    route: torch.Tensor, speed_mps: float, push: float = 0.0, yaw_rate_radps: float = 0.0
) -> np.ndarray:
    """Returns the (10, 3) poses after steps of half a second at constant speed."""
    pushes, turning = torch.full((1, 1, 10), push), torch.tensor([yaw_rate_radps])
    ahead = read_route(route, SPACING_M)
    return follow(ahead, turning, constant(speed_mps), DT_S, pushes, STEERING_LEAD_S)[0, 0].numpy()


def bend(radius_m: float, straight_m: float) -> shapely.LineString:
    """Returns a line that goes straight and then turns left by a quarter."""
    angles = np.linspace(0.0, np.pi / 2, 50)
    arc = radius_m * np.column_stack([np.sin(angles), 1.0 - np.cos(angles)])
    arc[:, 0] += straight_m
    return shapely.LineString([[0.0, 0.0], *arc, arc[-1] + np.array([0.0, 60.0])])


STRAIGHT = shapely.LineString([[0.0, 0.0], [80.0, 0.0]])


@pytest.mark.parametrize(
    ("radius_m", "speed_mps"), [(8.0, 4.0), (12.0, 5.0), (50.0, 9.0), (1000.0, 9.5)]
)
def test_nothing_added_keeps_the_vehicle_over_the_route(radius_m, speed_mps):
    line = bend(radius_m, straight_m=6.0)
    for x, y, yaw in followed(route_of(line), speed_mps):
        front = shapely.Point(x + FRONT_M * np.cos(yaw), y + FRONT_M * np.sin(yaw))
        sides = [line.distance(place) for place in (shapely.Point(x, y), front)]
        # The wheel base of a turning vehicle needs f^2 / 2R, here shared by both of its ends.
        assert max(sides) < 0.25 * FRONT_M**2 / radius_m + 0.35


@pytest.mark.parametrize("speed_mps", [2.0, 5.0, 9.0])
@pytest.mark.parametrize(("offset_m", "turn"), [(1.0, 0.0), (-0.5, 0.3), (0.0, -0.2)])
@pytest.mark.parametrize("push", [0.0, 0.01])
def test_offsets_go_as_a_critically_damped_system_does(speed_mps, offset_m, turn, push):
    cos, sin = np.cos(turn), np.sin(turn)  # The route starts beside the ego and turns from it.
    start = np.array([-offset_m * sin, offset_m * cos])
    line = shapely.LineString([start, start + 80.0 * np.array([cos, sin])])
    poses = followed(route_of(line), speed_mps, push)
    lefts = -sin * poses[:, 0] + cos * poses[:, 1] - offset_m
    reach_m = 3.0 + speed_mps
    solved = solve_ivp(
        lambda _, y: [y[1], push - 2.0 * y[1] / reach_m - y[0] / reach_m**2],
        (0.0, 50.0), [-offset_m, -np.tan(turn)], rtol=1e-8, atol=1e-8,
        t_eval=0.5 * speed_mps * np.arange(1, 11),
    )  # fmt: skip
    np.testing.assert_allclose(lefts, solved.y[0], atol=1e-4)
    np.testing.assert_allclose(np.tan(poses[:, 2] - turn), solved.y[1], atol=1e-4)


@pytest.mark.parametrize("known", [1, 2, 4])
def test_past_the_end_of_the_route_it_goes_straight_on(known):
    poses = followed(route_of(STRAIGHT, known), speed_mps=8.0)
    np.testing.assert_allclose(poses[:, 0], 4.0 * np.arange(1, 11), atol=1e-4)
    np.testing.assert_allclose(poses[:, 1:], 0.0, atol=1e-6)


def lowered(line: shapely.LineString, speed_mps: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns speeds within the bends of a line, and how far along it they are reached."""
    ahead = read_route(route_of(line), SPACING_M)
    speeds = within_bends(constant(speed_mps), DT_S, ahead)
    along = np.cumsum(driven(speeds, DT_S)[0, 0].numpy())
    return speeds[0, 0].numpy(), np.concatenate([[0.0], along])


@pytest.mark.parametrize("radius_m", [8.0, 15.0, 25.0])
def test_bends_are_driven_at_a_comfortable_speed(radius_m):
    speeds, along = lowered(bend(radius_m, straight_m=25.0), 10.0)
    # The route's points round the two ends of a bend off.
    turning = (along > 25.0 + SPACING_M) & (along < 25.0 + 1.57 * radius_m - SPACING_M)
    assert turning.any()
    assert (speeds[turning] ** 2 / radius_m < 2.5 * 1.1).all()
    assert (np.diff(speeds) > -2.2 * DT_S).all()


def test_straight_roads_and_wide_bends_are_driven_as_the_network_says():
    for line in (STRAIGHT, bend(200.0, 10.0)):
        np.testing.assert_allclose(lowered(line, 12.0)[0], 12.0, atol=1e-5)


def test_a_bend_that_is_too_near_is_braked_for_as_hard_as_comfort_allows():
    speeds, _ = lowered(bend(8.0, straight_m=2.0), 12.0)
    np.testing.assert_allclose(np.diff(speeds)[:2], -4.0 * DT_S, atol=1e-4)


class Flat:
    """A ground of no height."""

    def height(self, points_m: np.ndarray) -> np.ndarray:
        return np.zeros(len(points_m))


def strayed(line: shapely.LineString, speed_mps: float) -> tuple[float, float, list[str]]:
    """Returns how far a car that plans twice a second strays from a line, and how far it gets.

    The car is the closed loop's: the tracker and the bicycle of the PDM score. What strays is a
    point halfway between its rear axle and its front. The last is what plans ask of it that the
    guard refuses.
    """
    route_m = np.array([line.interpolate(m).coords[0] for m in np.arange(0.0, line.length, 0.5)])
    ego, farthest, refused = Ego(np.zeros(4), speed_mps, Flat()), 0.0, []
    while ego.state[StateIndex.Y] < route_m[-1, 1] - 30.0 and ego.step < 400:
        state = ego.ego_state
        if ego.step % 5 == 0:
            pose = Pose(state.x_m, state.y_m, 0.0, state.yaw_rad)
            ahead = read_route(torch.tensor(route_ahead(route_m, pose, 30, SPACING_M))[None], 2.5)
            gaining_mps = state.vx_mps + 2.0 * DT_S * torch.arange(11)
            wanted = gaining_mps.clamp(max=max(speed_mps, state.vx_mps))[None, None]
            speeds = within_bends(wanted, DT_S, ahead)
            turning = torch.tensor([state.yaw_rate_radps])
            pushes = torch.zeros(1, 1, 10)
            plan = follow(ahead, turning, speeds.float(), DT_S, pushes, STEERING_LEAD_S)[0, 0]
            poses_m = to_parent([state.x_m, state.y_m, state.yaw_rad], plan.double().numpy())
            dense_m = interpolate_poses(state, poses_m[None], DT_S, 0.1 * np.arange(51))
            for demand in demands(dense_m, state.vx_mps, LIMITS):
                refused += [demand.text(0)] if demand.values[0] > demand.limit else []
            ego.follow(poses_m, DT_S)
        ego.advance()
        heading = np.array([np.cos(state.yaw_rad), np.sin(state.yaw_rad)])
        middle = np.array([state.x_m, state.y_m]) + 0.5 * FRONT_M * heading
        farthest = max(farthest, line.distance(shapely.Point(middle)))
    return farthest, float(ego.state[StateIndex.Y]), refused


@pytest.mark.parametrize("radius_m", [7.0, 12.0, 40.0])
def test_a_tracker_with_a_lag_keeps_to_bends(radius_m):
    line = bend(radius_m, straight_m=40.0)
    farthest_m, reached_m, refused = strayed(line, 8.0)
    assert reached_m > radius_m + 20.0
    assert farthest_m < 0.5
    assert not refused
