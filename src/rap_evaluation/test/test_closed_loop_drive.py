from __future__ import annotations

import importlib.util
import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import cv2
import numpy as np
import pytest

from rap_evaluation.closed_loop.drive import GOAL_M, drive
from rap_evaluation.closed_loop.evaluation import ClosedLoopOptions, evaluate_closed_loop
from rap_evaluation.closed_loop.local_demand import APPEAR_M
from rap_evaluation.closed_loop.place import open_place
from rap_evaluation.closed_loop.report import route_report
from rap_evaluation.closed_loop.routes import (
    GOAL_MARGIN_M,
    MAX_LENGTH_M,
    MIN_JUNCTIONS,
    MIN_LENGTH_M,
    MIN_TURN_RAD,
    draw_routes,
)
from rap_evaluation.closed_loop.scores import score_drive
from rap_evaluation.closed_loop.world import running_world
from rap_evaluation.planners.constant_velocity import ConstantVelocity
from rap_evaluation.planners.observation import Plan
from rap_evaluation.traffic.towns import TrafficError, town_path
from rap_raster.frames import Pose, to_local, wrap_angle
from rap_raster.maps.routing import CONTINUATION_M
from rap_raster.scene import LightState, ObjectClass

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("libsumo", "sumo", "py123d")),
        reason="SUMO or the towns are not installed: run make setup",
    ),
]
TOWN = town_path("Town02") if importlib.util.find_spec("py123d") else None


class Parked:
    def plan(self, observation):
        return Plan(np.repeat(observation.ego.planar[None], 10, axis=0), 0.5)


class Blind:
    """Follows the route at a steady speed, whatever is in the way; near the goal to its right."""

    def __init__(self, aside_m=0.0):
        self.aside_m = aside_m

    def plan(self, observation):
        along = observation.along_m + 8.0 * 0.1 * np.arange(1, 51)
        poses = np.array([observation.road.at(m) for m in along])[:, [0, 1, 3]]
        near = along > observation.road.goal_m - 40.0
        poses[near, 0] += self.aside_m * np.sin(poses[near, 2])
        poses[near, 1] -= self.aside_m * np.cos(poses[near, 2])
        return Plan(poses, 0.1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("sumo")


@pytest.fixture(scope="module")
def place(cache):
    return open_place(TOWN, cache)


@pytest.fixture(scope="module")
def parked(place):
    """On a route on which somebody comes up behind."""
    (route,) = draw_routes(place, 1, seed=1)
    return drive(place, route, Parked(), replan_hz=2)


@pytest.fixture(scope="module")
def blind(place):
    route = draw_routes(place, 2, seed=0)[1]
    return drive(place, route, Blind(), replan_hz=2)


def options(cache, out, **changes):
    values = {"planner": "constant-velocity", "sensor": "raster", "map_path": TOWN, "routes": 2,
              "seed": 3, "replan_hz": 2}  # fmt: skip
    return ClosedLoopOptions(**{**values, **changes}, cache=cache, out=out)


def along_of_lanes(place, route):
    """Yields the lanes of a route with the distances on its line where they begin and end."""
    line = route.line_m[:, :2]
    for key in route.lane_ids:
        lane = place.map.lanes[key]
        ends = lane.centerline_m[[0, -1], :2]
        begin, end = (route.along_m[np.hypot(*(line - point).T).argmin()] for point in ends)
        yield lane, begin, end


def heading_rad(start, end):
    return np.arctan2(*(end - start)[[1, 0]])


@pytest.mark.parametrize("town", ["Town02", "Town05"])
def test_routes_pass_junctions_and_a_turn_before_a_goal_outside_junctions(cache, town):
    place = open_place(town_path(town), cache)
    for route in draw_routes(place, 60, seed=5):
        assert MIN_LENGTH_M <= route.length_m <= MAX_LENGTH_M + 100.0
        assert route.along_m[-1] >= route.goal_m + CONTINUATION_M - 0.5
        passed, turns_rad = [], []
        for lane, begin, end in along_of_lanes(place, route):
            if not lane.in_junction or begin > route.goal_m:
                continue
            assert end <= route.goal_m - GOAL_MARGIN_M + 0.5
            points = lane.centerline_m
            passed.append(lane.id)
            turn_rad = heading_rad(*points[-2:]) - heading_rad(*points[:2])
            turns_rad.append(abs(wrap_angle(turn_rad)))
        assert len(passed) >= MIN_JUNCTIONS
        assert max(turns_rad) >= MIN_TURN_RAD
        assert route.junctions == tuple(passed)


def test_routes_follow_lanes_and_turns_that_traffic_knows(place):
    lanes = place.map.lanes
    for route in draw_routes(place, 20, seed=5):
        steps = np.hypot(*np.diff(route.line_m[:, :2], axis=0).T)
        assert steps.max() < 1.0
        for key, following in zip(route.lane_ids, route.lane_ids[1:], strict=False):
            assert following in lanes[key].successors
        assert all(key in place.turns for key in route.junctions)


def test_a_route_depends_on_its_number_and_the_seed_alone(place):
    few, many = draw_routes(place, 2, seed=5), draw_routes(place, 6, seed=5)
    assert [r.lane_ids for r in few] == [r.lane_ids for r in many[:2]]
    assert len({route.seed for route in many}) == 6
    assert [r.lane_ids for r in draw_routes(place, 2, seed=6)] != [r.lane_ids for r in few]


def test_a_map_without_junctions_has_no_routes(place):
    lanes = {
        key: replace(lane, successors=())
        for key, lane in place.map.lanes.items()
        if not lane.in_junction
    }
    with pytest.raises(TrafficError, match="Town02: has no route of 300 m through a junction"):
        draw_routes(replace(place, map=replace(place.map, lanes=lanes)), 1, seed=0)


def test_a_parked_ego_is_blocked_and_hit_by_nobody(parked):
    assert parked.failure == "blocked for 60 s"
    assert parked.events.collisions == []
    assert score_drive(parked).completion < 0.05


def test_traffic_stops_behind_a_standing_ego(parked):
    last = parked.glimpses[-1]
    boxes = last.surroundings.boxes
    poses = np.column_stack([boxes.centers_m[:, :2], boxes.yaws_rad])
    local = to_local(last.ego.planar, poses)
    behind = (np.abs(local[:, 1]) < 1.0) & (local[:, 0] < 0.0) & (local[:, 0] > -12.0)
    assert behind.any()
    assert np.abs(boxes.velocities_mps[behind]).max() < 0.01


def test_road_users_move_as_their_velocity_says(parked):
    """Between plans 0.5 s apart; towed boxes must not slide sideways either."""
    moved = 0
    for before, after in zip(parked.glimpses, parked.glimpses[1:], strict=False):
        old, new = before.surroundings.boxes, after.surroundings.boxes
        vehicle = new.classes != ObjectClass.PEDESTRIAN
        for row in np.flatnonzero(np.isin(new.ids, old.ids) & vehicle):
            source = int(np.flatnonzero(old.ids == new.ids[row])[0])
            step = new.centers_m[row, :2] - old.centers_m[source, :2]
            mean = 0.5 * (new.velocities_mps[row] + old.velocities_mps[source])
            assert np.hypot(*(step - 0.5 * mean)) < 0.8
            moved += np.hypot(*step) > 1.0
    assert moved > 100


def test_a_blind_driver_runs_red_lights_and_into_others(place, blind):
    assert blind.failure == ""
    events = blind.events
    assert any(collision.at_fault for collision in events.collisions)
    assert events.red_light_steps
    for step in events.red_light_steps:
        signals = blind.glimpses[step // 5].surroundings.signals
        ahead = [key for key in blind.route.junctions if key in signals]
        assert LightState.RED in [signals[key] for key in ahead]


def test_the_ego_follows_the_plan(blind):
    """At 8 m/s the tracker keeps within half a metre of the line, bends of 8 m radius apart."""
    line = blind.route.line_m[:, :2]
    gaps = np.array([np.hypot(*(line - state[:2]).T).min() for state in blind.states])
    assert np.median(gaps) < 0.3
    assert abs(blind.states[50:, 3].mean() - 8.0) < 0.3


def test_traffic_survives_an_ego_that_drives_anywhere(place):
    """SUMO crashes, and with it the process, on vehicles that it finds nowhere on its network."""
    (route,) = draw_routes(place, 1, seed=1)
    rng = np.random.default_rng(0)
    x, y, z, yaw = route.at(route.start_m)
    with running_world(place, route, 60.0) as world:
        for _ in range(300):
            yaw += rng.normal(0.02, 0.05)
            x, y = x + 0.8 * np.cos(yaw), y + 0.8 * np.sin(yaw)
            world.step(Pose(x, y, z, yaw))
        assert len(world.boxes(1000.0))


def test_nobody_appears_near_the_ego(place):
    """Neither people nor those for whom there was no room before: it could not brake for them."""
    appeared_m = []
    for route in draw_routes(place, 4, seed=2):
        known = set()
        with running_world(place, route, 60.0) as world:
            for step in range(500):
                here = route.at(route.start_m + 0.8 * step)
                world.step(Pose(*here))
                boxes = world.boxes(1000.0)
                new = ~np.isin(boxes.ids, list(known)) & bool(known)
                appeared_m += np.hypot(*(boxes.centers_m[new, :2] - here[:2]).T).tolist()
                known |= set(boxes.ids.tolist())
    assert len(appeared_m) > 25
    assert min(appeared_m) > APPEAR_M[0] - 10.0  # half a bus, a step, and the lane beside


@pytest.mark.parametrize(("aside_m", "reached"), [(9.0, True), (11.0, False)])
def test_who_passes_the_goal_far_beside_the_route_has_not_arrived(place, aside_m, reached):
    (route,) = draw_routes(place, 1, seed=0)

    result = drive(place, route, Blind(aside_m), replan_hz=2)
    assert (result.failure == "") == reached
    assert result.along_m.max() > route.goal_m - GOAL_M


@pytest.mark.parametrize(
    ("poses", "dt_s", "reason"),
    [
        (None, 0.5, "planner: KeyError: 'no such key'"),
        (np.full((10, 3), np.nan), 0.5, "planner: expected (T, 3) finite poses, got shape (10, 3)"),
        (np.zeros((10, 2)), 0.5, "planner: expected (T, 3) finite poses, got shape (10, 2)"),
        (np.zeros((0, 3)), 0.5, "planner: 0 poses every 0.5 s end before 4 s"),
        (np.zeros((5, 3)), 0.1, "planner: 5 poses every 0.1 s end before 4 s"),
        (np.zeros((10, 3)), 0.0, "planner: dt_s is 0.0, expected > 0"),
        (np.zeros((10, 3)), np.nan, "planner: dt_s is nan, expected > 0"),
    ],
)
def test_a_broken_planner_ends_its_drive_with_the_reason(place, poses, dt_s, reason):
    class Broken:
        def plan(self, observation):
            if poses is None:
                raise KeyError("no such key")
            return Plan(poses, dt_s)

    (route,) = draw_routes(place, 1, seed=0)
    result = drive(place, route, Broken(), replan_hz=2)
    assert result.failure == reason
    assert route_report(result, None).row["status"] == f"Failed - {reason}"


def test_an_error_of_the_simulation_ends_its_drive_only(place, monkeypatch):
    def crash(self, pose):
        raise RuntimeError("no such edge")

    monkeypatch.setattr("rap_evaluation.closed_loop.world.World.step", crash)
    (route,) = draw_routes(place, 1, seed=0)
    result = drive(place, route, ConstantVelocity(), replan_hz=2)
    assert result.failure == "simulation: RuntimeError: no such edge"


def test_a_drive_that_fails_does_not_stop_the_others(cache, tmp_path, monkeypatch):
    calls = []

    class FailsOnce:
        def plan(self, observation):
            calls.append(observation.road.index)
            if observation.road.index == 0:
                raise RuntimeError("out of memory")
            return Parked().plan(observation)

    monkeypatch.setattr(
        "rap_evaluation.closed_loop.evaluation.planner_maker", lambda *_: lambda _: FailsOnce()
    )
    report = evaluate_closed_loop(options(cache, tmp_path))
    assert [row["status"] for row in report["per_route"]] == [
        "Failed - planner: RuntimeError: out of memory",
        "Failed - blocked for 60 s",
    ]
    assert calls.count(0) == 1


def test_what_is_driven_is_reported_when_the_rest_is_stopped(cache, tmp_path, monkeypatch):
    class StoppedAtTheSecond:
        def plan(self, observation):
            if observation.road.index == 1:
                raise KeyboardInterrupt
            return Parked().plan(observation)

    monkeypatch.setattr(
        "rap_evaluation.closed_loop.evaluation.planner_maker",
        lambda *_: lambda _: StoppedAtTheSecond(),
    )
    with pytest.raises(KeyboardInterrupt):
        evaluate_closed_loop(options(cache, tmp_path))
    content = json.loads((tmp_path / "report.json").read_text())
    assert (content["routes"], content["routes_asked"]) == (1, 2)
    assert [row["route"] for row in content["per_route"]] == [0]
    assert "1 of 2 routes" in (tmp_path / "report.html").read_text()


def test_reports_of_one_seed_are_equal_and_complete(cache, tmp_path):
    texts = []
    for name in ("one", "two"):
        returned = evaluate_closed_loop(options(cache, tmp_path / name))
        content = json.loads((tmp_path / name / "report.json").read_text())
        assert content == returned
        assert content.pop("real_time_factor") > 0.0
        assert content.pop("timing")["wall_s"] > 0.0
        texts.append(json.dumps(content))
    assert texts[0] == texts[1]
    assert {
        "routes", "completed", "collisions_at_fault", "off_road", "red_lights", "clean_routes",
        "driving_score", "per_route",
    } <= set(content)  # fmt: skip
    assert content["routes"] == len(content["per_route"]) == 2
    assert content["completed"] == content["clean_routes"] == 0
    page = (tmp_path / "one" / "report.html").read_text()
    for drawing in page.split("<svg")[1:]:
        ET.fromstring("<svg" + drawing.split("</svg>")[0] + "</svg>")
    for row in content["per_route"]:
        assert f'href="{row["video"]}"' in page
        video = cv2.VideoCapture(str(tmp_path / "one" / row["video"]))
        plans = np.ceil(row["seconds"] * 2)
        assert abs(video.get(cv2.CAP_PROP_FRAME_COUNT) - plans) <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"routes": 0}, "routes: expected at least 1, got 0"),
        ({"replan_hz": 3}, "replan-hz: expected 1, 2, 5 or 10, got 3"),
        ({"sensor": "lidar"}, "sensor: expected one of raster, camera, got 'lidar'"),
        ({"planner": "teleport"}, "planner: expected constant-velocity, pdm-closed or a bundle"),
    ],
)
def test_wrong_options_are_named(cache, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate_closed_loop(options(cache, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()
