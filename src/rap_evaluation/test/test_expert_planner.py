from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from expert_scenes import (
    LIMIT_MPS,
    STOP_LINE_M,
    agents_of,
    drive,
    limits,
    straight_road,
)

from rap_evaluation.expert.case_route import BlockLane, block_route_centerline
from rap_evaluation.expert.idm import MAX_DECELERATION_MPS2
from rap_evaluation.expert.paths import FRONT_M
from rap_evaluation.expert.pdm_closed import PdmClosed
from rap_evaluation.metrics.pdm_kernels import initial_overlaps
from rap_evaluation.metrics.pdm_scene import STATES, AgentKind, Agents, StateIndex

CASES = Path(__file__).parent / "cases" / "pdm.json.gz"
VEHICLE, PEDESTRIAN = AgentKind.VEHICLE, AgentKind.PEDESTRIAN


@pytest.fixture(scope="module")
def planner():
    return PdmClosed()


def test_plan_starts_at_the_ego_and_speeds_up_to_the_limit(planner):
    states = drive(planner, straight_road(4.0, offset_m=0.6), 20)
    assert states[-1, StateIndex.VX] == pytest.approx(LIMIT_MPS, rel=0.05)
    assert states[:, StateIndex.VX].max() < 1.02 * LIMIT_MPS
    assert abs(states[-1, StateIndex.Y]) < 0.05
    scene = straight_road(4.0, offset_m=0.6)
    plan = planner.plan(scene, limits(scene))
    assert plan.shape == (STATES, 3)
    assert plan[0] == pytest.approx(scene.initial_state[:3], abs=1e-12)


def test_stops_behind_a_standing_vehicle(planner):
    parked = agents_of((VEHICLE, 4.5, 1.9, 50.0, 0.0, 0.0, 0.0, 0.0))
    states = drive(planner, straight_road(10.0, parked), 30)
    gap_m = 50.0 - 0.5 * 4.5 - states[-1, StateIndex.X] - FRONT_M
    assert abs(states[-1, StateIndex.VX]) < 0.1
    assert 0.5 < gap_m < 5.0


def test_stops_before_a_red_light_and_passes_a_green_one(planner):
    stopped = drive(planner, straight_road(10.0, red=True), 30)
    assert STOP_LINE_M - 5.0 < stopped[-1, StateIndex.X] + FRONT_M < STOP_LINE_M
    assert abs(stopped[-1, StateIndex.VX]) < 0.1
    passed = drive(planner, straight_road(10.0, red=False), 30)
    assert passed[-1, StateIndex.X] > STOP_LINE_M + 50.0


def test_does_not_stop_for_a_light_that_turns_red_too_late(planner):
    """From 12 m/s even 8 m/s^2 would need 9 m: stopping would end within the junction."""
    scene = straight_road(12.0, red=True)
    state = scene.initial_state.copy()
    state[StateIndex.X] = STOP_LINE_M - FRONT_M - 5.0
    driven = drive(planner, replace(scene, initial_state=state), 4)
    assert driven[:, StateIndex.VX].min() > 11.0


def test_light_of_another_way_is_not_obeyed(planner):
    scene = straight_road(10.0, red=True)
    on_route = scene.areas.on_route & (np.arange(4) != 3)
    driven = drive(planner, replace(scene, areas=replace(scene.areas, on_route=on_route)), 20)
    assert driven[-1, StateIndex.X] > STOP_LINE_M


def test_passes_an_obstacle_at_the_side_on_its_far_side(planner):
    """A parked car reaches 0.55 m into the way of a car on the centreline, not of one beside it."""
    parked = agents_of((VEHICLE, 4.5, 1.8, 45.0, -1.5, 0.0, 0.0, 0.0))
    states = drive(planner, straight_road(8.0, parked), 24)
    beside = np.abs(states[:, StateIndex.X] + 1.461 - 45.0) < 4.0
    assert beside.any()
    assert states[beside, StateIndex.Y].min() > 0.5
    assert not _collides(states, lambda _: parked)


def test_brakes_harder_than_comfort_when_it_must(planner):
    child = agents_of((PEDESTRIAN, 0.5, 0.5, FRONT_M + 14.0, 0.0, 1.57, 0.0, 0.0))
    states = drive(planner, straight_road(9.0, child), 8)
    assert states[:, StateIndex.AX].min() < -1.5 * MAX_DECELERATION_MPS2
    assert not _collides(states, lambda _: child)


@pytest.mark.parametrize("speed_mps", [4.0, 7.0, 10.0])
def test_gives_way_to_a_crossing_vehicle(planner, speed_mps):
    """It crosses 40 m ahead when the ego would be there, and does not care about the ego."""
    until_s = 40.0 / LIMIT_MPS

    def crossing(now_s):
        y = speed_mps * (now_s - until_s)
        return agents_of((VEHICLE, 4.5, 1.9, 40.0, y, np.pi / 2, 0.0, speed_mps))

    states = drive(planner, straight_road(LIMIT_MPS, crossing(0.0)), 24, crossing)
    assert not _collides(states, crossing)
    assert states[-1, StateIndex.X] > 60.0


def test_gives_way_to_a_crossing_pedestrian(planner):
    def crossing(now_s):
        return agents_of((PEDESTRIAN, 0.5, 0.5, 35.0, -4.0 + 1.4 * now_s, np.pi / 2, 0.0, 1.4))

    states = drive(planner, straight_road(9.0, crossing(0.0)), 30, crossing)
    assert not _collides(states, crossing)
    assert states[-1, StateIndex.X] > 60.0


def test_goes_on_from_the_edge_of_the_road(planner):
    """A corner is off the road, so that every drive breaks the drivable area at first."""
    scene = straight_road(0.0, offset_m=-1.0)
    states = drive(planner, scene, 16)
    assert states[-1, StateIndex.X] > 10.0
    assert abs(states[-1, StateIndex.Y]) < 0.3


def test_stops_where_the_line_ends(planner):
    scene = straight_road(10.0)
    line = scene.centerline_m[scene.centerline_m[:, 0] <= 70.0]
    states = drive(planner, replace(scene, centerline_m=line), 40)
    assert abs(states[-1, StateIndex.VX]) < 0.2
    assert states[-1, StateIndex.X] == pytest.approx(70.0, abs=3.0)


def test_later_frames_are_not_looked_at(planner):
    now = agents_of(
        (VEHICLE, 4.5, 1.9, 30.0, 0.3, 0.0, 6.0, 0.0),
        (PEDESTRIAN, 0.5, 0.5, 40.0, -5.0, 1.57, 0.0, 1.4),
    )
    rng = np.random.default_rng(0)
    later = np.concatenate([now.states, rng.normal(0.0, 20.0, (2, 50, 5))], axis=1)
    scene = straight_road(9.0, now, red=True)
    known = planner.plan(scene, limits(scene))
    red = replace(scene.red_lights, red=np.array([[True, *[False] * 40]]))
    scene = replace(scene, agents=replace(now, states=later), red_lights=red)
    assert np.array_equal(planner.plan(scene, limits(scene)), known)
    moved = replace(now, states=now.states + np.array([5.0, 0.0, 0.0, 0.0, 0.0]))
    other = planner.plan(replace(scene, agents=moved), limits(scene))
    assert not np.array_equal(other, known)


def test_same_scene_gives_the_same_plan():
    agents = agents_of((VEHICLE, 4.5, 1.9, 30.0, 0.3, 0.0, 6.0, 0.0))
    scene = straight_road(9.0, agents)
    plans = [PdmClosed().plan(scene, limits(scene)).tobytes() for _ in range(2)]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("angle_rad", [1.0, -2.5])
def test_plan_turns_with_the_map(planner, angle_rad):
    agents = agents_of((VEHICLE, 4.5, 1.9, 30.0, 1.5, 0.2, 6.0, 1.0))
    scene = straight_road(9.0, agents, offset_m=0.3)
    plan = planner.plan(scene, limits(scene))
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    turn = np.array([[cos, sin], [-sin, cos]])
    state = scene.initial_state.copy()
    state[:2], state[2] = state[:2] @ turn, angle_rad
    states = agents.states.copy()
    states[..., :2] = states[..., :2] @ turn
    states[..., 3:] = states[..., 3:] @ turn
    states[..., 2] += angle_rad
    line = scene.centerline_m @ np.block([[turn, np.zeros((2, 1))], [np.zeros(2), 1.0]])
    line[:, 2] = angle_rad
    turned = replace(
        scene,
        initial_state=state,
        areas=replace(scene.areas, points_m=scene.areas.points_m @ turn),
        centerline_m=line,
        agents=replace(agents, states=states),
    )
    assert planner.plan(turned, limits(scene))[:, :2] == pytest.approx(plan[:, :2] @ turn, abs=1e-6)


def test_lines_of_routes_over_roadblocks_are_the_official_ones():
    """Against the centrelines that NAVSIM's own metric cache found in the same maps."""
    with gzip.open(CASES) as file:
        cases = json.load(file)["cases"]
    assert len(cases) > 20
    for case in cases:
        given = case["input"]
        pose = np.array([given["ego"][key] for key in ("x", "y", "heading")])
        lanes = _block_lanes(given["map"])
        line, speeds = block_route_centerline(lanes, given["route_roadblock_ids"], pose)
        official = np.array(given["reference"]["v1"]["centerline"])
        assert line == pytest.approx(official, abs=1e-8)
        assert len(speeds) == len(line)


def test_route_without_lanes_is_refused():
    with pytest.raises(ValueError, match="no lane of the map"):
        block_route_centerline({}, ["7"], np.zeros(3))


def _block_lanes(areas):
    onward = {}
    for connector in areas["lane_connectors"]:
        onward.setdefault(connector["from_lane"], []).append(connector["id"])
    lanes = {}
    for lane in areas["lanes"]:
        lanes[lane["id"]] = _block_lane(lane, "roadblock_id", onward.get(lane["id"], ()))
    for lane in areas["lane_connectors"]:
        lanes[lane["id"]] = _block_lane(lane, "roadblock_connector_id", (lane["to_lane"],))
    return lanes


def _block_lane(lane, block_key, successors):
    line, ring = np.array(lane["centerline"]), np.array(lane["polygon"])
    return BlockLane(lane[block_key], line, ring, tuple(successors), lane["speed_limit_mps"])


def _collides(states, agents_at):
    for k, state in enumerate(states):
        agents: Agents = agents_at(0.1 * k)
        if initial_overlaps(state, agents.states, agents.sizes_m).any():
            return True
    return False
