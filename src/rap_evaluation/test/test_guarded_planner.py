"""Plans of a bundle as the vehicle's guard lets them through."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rap_evaluation.metrics.pdm_scene import STATE_SIZE, StateIndex
from rap_evaluation.metrics.pdm_simulator import PREVIEW_S, SPEED_DELAY_S, simulate
from rap_evaluation.planners.guarded_planner import GuardedPlanner
from rap_evaluation.planners.observation import Observation, Road, Surroundings
from rap_planner.candidates import Candidates
from rap_planner.checks import CheckLimits
from rap_planner.response import Response
from rap_planner.route import Command
from rap_raster.ego_history import EgoHistory, EgoState
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Boxes, Lights, ObjectClass, Shapes

SPEED_MPS = 10.0
TIMES_S = 0.5 * np.arange(1, 11)
ROAD = Road(("lane",), np.zeros((2, 3)), np.zeros(2), seed=0)
BODY = CheckLimits().body
NO_MAP = VectorMap("none", Shapes.from_list([]), Shapes.from_list([]))


def straight_on(braking_mps2: float):
    """How far a candidate gets that brakes until it stands."""
    driven_s = np.minimum(TIMES_S, SPEED_MPS / braking_mps2 if braking_mps2 else np.inf)
    return SPEED_MPS * driven_s - 0.5 * braking_mps2 * driven_s**2


@dataclass
class Proposer:
    """Proposes to brake, each time in the same ways; the first one is the best."""

    braking_mps2: tuple[float, ...]
    asked_at_s: list[float]

    def candidates(self, observation):
        ego = observation.ego
        self.asked_at_s.append(ego.stamp_ns * 1e-9)
        ahead = np.array([straight_on(value) for value in self.braking_mps2])
        poses = np.stack([ego.x_m + ahead, 0.0 * ahead, 0.0 * ahead], -1)
        scores = -np.arange(len(ahead), dtype=np.float32)
        return Candidates(
            stamp_ns=ego.stamp_ns,
            ego=ego,
            dt_s=0.5,
            poses_m=poses,
            scores=scores,
            uncertainty=0.0,
            command=Command.STRAIGHT,
            command_source="route",
            inference_ms=0.0,
            camera_sources=np.ones(1, np.uint8),
            alignment_distance=np.nan,
        ), {"front": np.zeros((2, 2, 3), np.uint8)}


def car(x_m: float) -> Boxes:
    """One standing car."""
    return Boxes(
        ids=np.array([7], np.int32),
        classes=np.array([ObjectClass.VEHICLE], np.uint8),
        centers_m=np.array([[x_m, 0.0, 0.75]]),
        sizes_m=np.array([[4.5, 1.9, 1.5]]),
        yaws_rad=np.zeros(1),
        velocities_mps=np.zeros((1, 2)),
    )


def seen(
    step: int,
    boxes: Boxes | None = None,
    road: Road = ROAD,
    x_m: float | None = None,
    speed_mps: float = SPEED_MPS,
) -> Observation:
    """The world at a step; the ego drives at constant speed, if it is not told otherwise."""
    x_m = SPEED_MPS * 0.1 * step if x_m is None else x_m
    ego = EgoState(step * 100_000_000, x_m, 0.0, 0.0, 0.0, speed_mps, 0.0, 0.0)
    around = Surroundings(boxes or Boxes.empty(), Lights.empty(), {})
    return Observation(ego, np.zeros(STATE_SIZE), EgoHistory(), around, road, ego.x_m)


def guarded(*braking_mps2: float) -> tuple[GuardedPlanner, Proposer]:
    proposer = Proposer(braking_mps2, [])
    return GuardedPlanner(proposer, NO_MAP, replan_hz=2), proposer


@pytest.mark.parametrize(("boxes", "chosen"), [(None, 0.0), (car(32.0), 3.0)])
def test_the_best_candidate_that_meets_nobody_is_followed(boxes, chosen):
    planner, _ = guarded(0.0, 3.0)
    plan = planner.plan(seen(0, boxes))
    assert plan.poses_m[:8, 0] == pytest.approx(straight_on(chosen)[:8], abs=0.05)
    assert set(plan.images) == {"front"}


def test_the_bundle_is_asked_at_its_rate_and_its_plan_goes_on_between():
    planner, proposer = guarded(0.0)
    plans = [planner.plan(seen(step)) for step in range(11)]
    assert proposer.asked_at_s == [0.0, 0.5, 1.0]
    assert all(plan is plans[0] for plan in plans[1:5])
    assert plans[5] is not plans[0]


def test_where_no_candidate_may_be_followed_the_vehicle_stops_before_what_is_there():
    """The planner is blind to the car: all its candidates drive on through it."""
    planner, _ = guarded(0.0)
    x_m, speed_mps, taken = [0.0], SPEED_MPS, None
    for step in range(120):
        observation = seen(step, car(60.0), x_m=x_m[-1], speed_mps=speed_mps)
        plan = planner.plan(observation)
        if plan is not taken:
            taken, since, ahead_m = plan, step, np.append(x_m[-1], plan.poses_m[:, 0])
        x_m.append(np.interp(0.1 * (step + 1 - since), 0.5 * np.arange(len(ahead_m)), ahead_m))
        speed_mps = (x_m[-1] - x_m[-2]) / 0.1
    assert speed_mps == pytest.approx(0.0, abs=0.01)
    bumper_m = x_m[-1] + BODY.rear_axle_to_center_m + 0.5 * BODY.length_m
    assert 40.0 < bumper_m < 60.0 - 0.5 * 4.5


def test_a_new_route_begins_anew():
    planner, proposer = guarded(0.0)
    planner.plan(seen(3))
    planner.plan(seen(4, road=replace(ROAD, seed=1)))
    assert proposer.asked_at_s == [pytest.approx(0.3), pytest.approx(0.4)]


@settings(deadline=None)
@given(st.floats(1.0, 14.0), st.floats(0.0, 7.0), st.floats(0.0, 2.0))
def test_the_guard_knows_how_the_simulated_ego_brakes(speed_mps, braking_mps2, begin_s):
    """Its model of the vehicle against the tracker and bicycle of the PDM score."""
    times_s = 0.1 * np.arange(41)
    braking_s = np.maximum(times_s - begin_s, 0.0)
    if braking_mps2:
        braking_s = np.minimum(braking_s, speed_mps / braking_mps2)
    ahead_m = speed_mps * np.minimum(times_s, begin_s + braking_s) - 0.5 * braking_mps2 * (
        braking_s**2
    )
    poses = np.stack([ahead_m, 0.0 * ahead_m, 0.0 * ahead_m], -1)[None]
    state = np.zeros(STATE_SIZE)
    state[StateIndex.VX] = speed_mps
    driven_m = simulate(state, poses)[0, :, StateIndex.X]
    expected_m = Response(SPEED_DELAY_S, PREVIEW_S).driven(poses, speed_mps)[0, :, 0]
    # Three seconds are looked at; later the tracker sees no farther than the end of the plan.
    error_m = expected_m[:31] - np.maximum(driven_m, ahead_m)[:31]
    assert error_m.min() > -0.01 - 0.06 * speed_mps
    # On the safe side it may err by more.
    assert error_m.max() < 0.3 + 0.1 * speed_mps
