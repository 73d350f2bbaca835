"""Recovery samples: every label is drivable, comfortable, on the road and clear of others."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from label_checker import complaints, map_poses
from source_draws import situations
from straight_road import AXLE_M, EGO, LENGTH_M, STOP_LINE_M, drive_log, log_of, road

from rap_bringup.drives.nuscenes import read_nuscenes
from rap_evaluation.logs.drive_recording import recording_of
from rap_planner.route import Command, command_from_route
from rap_raster.frames import to_local, to_parent
from rap_raster.scene import LightState
from rap_training.augmentation.recovery.source import RecoverySource
from rap_training.augmentation.situation import Drop, Situation
from rap_training.config import ModelConfig, RecoveryConfig

pytestmark = pytest.mark.slow

DENSE = ModelConfig(history_steps=16, history_dt_s=0.1)
"""The checker looks at the history at every step."""

STEADY = np.full(120, 8.0)


def source_of(logs, *, preset="default", model=DENSE, attempts=3):
    return RecoverySource(logs, RecoveryConfig(preset=preset, attempts=attempts), model)


def fixed(tmp_path, **figures) -> str:
    """Writes a preset that always draws the same figures."""
    content = {
        "perturbation": {
            name: {"kind": "uniform", "low": value, "high": value}
            for name, value in figures.items()
        }
    }
    file = tmp_path / "fixed.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


def at_step(log, tmp_path, step, **figures):
    """Returns what becomes of one step of a log with given figures."""
    source = source_of([log], preset=fixed(tmp_path, **figures), attempts=1)
    starts = {source.moment(i).step: i for i in range(len(source))}
    return source.situation(starts[step], np.random.default_rng(0))


@pytest.fixture(scope="module")
def town(town_recording):
    """The simulated log, with every vehicle of it as a recording one: cars, trucks and buses."""
    seats = log_of(town_recording).seats(min_steps=60)
    return log_of(replace(town_recording, egos=tuple(seats)))


@pytest.fixture(scope="module")
def sources(town):
    return {name: source_of([town], preset=name) for name in ("default", "published")}


@pytest.mark.parametrize("preset", ["default", "published"])
@given(start=st.floats(0.0, 1.0, exclude_max=True), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_every_label_passes_an_independent_check(sources, preset, start, seed):
    source = sources[preset]
    result = source.situation(int(start * len(source)), np.random.default_rng(seed))
    assert isinstance(result, Drop) or complaints(result) == set(), result.details


@pytest.mark.parametrize("preset", ["default", "published"])
def test_most_moving_starts_give_a_sample(sources, preset):
    source, rng = sources[preset], np.random.default_rng(0)
    results = [source.situation(int(rng.integers(len(source))), rng) for _ in range(200)]
    moving = [result for result in results if result is not Drop.STANDING]
    assert np.mean([isinstance(result, Situation) for result in moving]) > 0.75


class TestTheCheckerFindsBadLabels:
    """A check that finds nothing would prove nothing."""

    @pytest.fixture
    def good(self, tmp_path):
        log = drive_log(STEADY)
        good = at_step(log, tmp_path, 40, lateral_m=0.4, yaw_rad=0.05)
        assert complaints(good) == set()
        return good

    def test_the_published_label_that_is_back_at_once(self, good):
        moment = good.moment
        recorded = to_local(good.ego.planar, moment.log.ego_poses(EGO)[41:91])
        assert complaints(replace(good, path_m=recorded)) >= {
            "acceleration", "jerk", "yaw acceleration", "slip", "no bicycle follows",
        }  # fmt: skip

    def test_a_label_through_a_car_and_one_below_a_bridge(self, good):
        x, y, _ = map_poses(good)[25]
        for z, found in ((0.0, {"contact"}), (6.0, set())):
            other = np.tile([x, y, z, 1.0], (len(STEADY), 1))
            log = drive_log(STEADY, others=[other])
            assert complaints(replace(good, moment=replace(good.moment, log=log))) == found

    def test_a_label_that_leaves_the_road(self, good):
        share = np.linspace(0.0, 1.0, 51)
        drift = 6.0 * share**3 * (10 - 15 * share + 6 * share**2)
        x = 0.8 * np.arange(51)
        path = np.column_stack([x, drift, np.arctan(np.gradient(drift, 0.8))])
        ego = replace(good.ego, y_m=0.0, yaw_rad=0.0, vx_mps=8.0, yaw_rate_radps=0.0)
        assert "off the road" in complaints(replace(good, ego=ego, path_m=path[1:]))

    def test_a_label_that_goes_backwards(self, good):
        assert "backwards" in complaints(replace(good, path_m=-good.path_m))

    def test_a_label_that_slides(self, good):
        slid = good.path_m + np.linspace(0.0, 1.0, 50)[:, None] * [0.0, 1.0, 0.0]
        assert {"slip", "no bicycle follows"} <= complaints(replace(good, path_m=slid))

    def test_a_label_that_brakes_too_hard(self, good):
        held = good.path_m[np.minimum(np.arange(50), 12)]
        assert {"acceleration", "jerk"} <= complaints(replace(good, path_m=held))

    @pytest.mark.parametrize(
        "change", [{"vx_mps": 9.0}, {"yaw_rate_radps": 0.3}, {"vx_mps": -8.0}, {"vy_mps": 0.5}]
    )
    def test_an_ego_state_that_is_not_that_of_the_motion(self, good, change):
        assert complaints(replace(good, ego=replace(good.ego, **change)))

    def test_a_history_that_was_not_perturbed(self, good):
        recorded = good.moment.history(16, 0.1)
        assert "history ends elsewhere" in complaints(replace(good, history=recorded))
        recorded[-1] = good.history[-1]
        recorded[:-1, 1] -= 0.4
        assert "jump between history and label" in complaints(replace(good, history=recorded))


def test_without_a_perturbation_the_drive_comes_back(town, tmp_path):
    source = source_of([town], preset=fixed(tmp_path), attempts=1)
    for situation in situations(source, 60):
        seat, step = situation.moment.seat, situation.moment.step
        row = step - town.first_step(seat)
        recorded = town.ego_poses(seat)[row : row + 51]
        gaps = [to_local(*pair) for pair in zip(recorded, map_poses(situation), strict=True)]
        along, across, yaw = np.abs(gaps).T
        # Speeds of the simulation jump every half second; smoothed, they are 0.1 m off along it.
        assert along.max() < 0.35
        assert across.max() < 0.1
        assert yaw.max() < 0.1
        assert situation.command == situation.moment.command()


FIGURES = {"lateral_m": 0.4, "longitudinal_m": -1.0, "yaw_rad": 0.1, "curvature_1pm": 0.01}


def test_the_ego_is_where_the_figures_say(tmp_path):
    situation = at_step(drive_log(STEADY), tmp_path, 40, speed_ratio=0.1, **FIGURES)
    recorded = situation.moment.ego()
    ego = situation.ego
    assert ego.x_m == pytest.approx(recorded.x_m - 1.0, abs=1e-6)
    assert (ego.y_m, ego.yaw_rad) == pytest.approx((0.4, 0.1), abs=1e-6)
    assert ego.vx_mps * np.cos(0.1) == pytest.approx(1.1 * 8.0, abs=1e-6)
    assert ego.yaw_rate_radps == pytest.approx(0.01 * ego.vx_mps, abs=1e-6)
    # Three seconds ago it was on its path, at the recorded speed; the history shows the last 1.5 s.
    y = to_parent(ego.planar, situation.history[:, :3].astype(float))[:, 1]
    assert 0.0 < abs(y[0]) < 0.4
    assert 8.0 < situation.history[0, 3] < situation.history[-1, 3]
    assert situation.details["lateral_m"] == 0.4


def test_a_turned_and_shifted_world_gives_the_same_samples(town, town_recording, tmp_path):
    x, y, yaw = 4e3, -7e3, 2.0
    other = source_of([log_of(moved(replace(town_recording, egos=town.egos), x, y, yaw))])
    source = source_of([town])
    rng = np.random.default_rng(2)
    for start in rng.integers(len(source), size=60).tolist():
        first, second = (
            each.situation(start, np.random.default_rng(start)) for each in (source, other)
        )
        if isinstance(first, Drop):
            assert second is first
            continue
        assert np.allclose(second.path_m, first.path_m, atol=1e-5)
        assert np.allclose(second.history, first.history, atol=1e-4)
        assert np.allclose(to_parent([x, y, yaw], first.ego.planar), second.ego.planar, atol=1e-5)
        assert second.command == first.command


def moved(recording, x, y, yaw):
    """Returns a recording in another map frame."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])

    def points(values):
        return None if values is None else values @ turn + [x, y, 0.0]

    states = recording.tracks.states.copy()
    states[:, :3] = points(states[:, :3])
    states[:, 3] += yaw
    states[:, 4:6] = states[:, 4:6] @ turn[:2, :2]
    area = recording.map
    lanes = {
        key: replace(lane, **{
            name: points(getattr(lane, name)) for name in ("centerline_m", "left_m", "right_m")
        })
        for key, lane in area.lanes.items()
    }  # fmt: skip
    polygons = replace(area.polygons, points_m=points(area.polygons.points_m))
    return replace(
        recording,
        tracks=replace(recording.tracks, states=states),
        map=replace(area, lanes=lanes, polygons=polygons),
    )


def test_a_seed_decides_everything(sources):
    source = sources["default"]
    for start in range(0, len(source), len(source) // 12):
        results = [source.situation(start, np.random.default_rng(s)) for s in (7, 7, 8)]
        if all(isinstance(result, Situation) for result in results):
            first, same, other = results
            assert first.path_m.tobytes() == same.path_m.tobytes()
            assert first.history.tobytes() == same.history.tobytes()
            assert first.details == same.details != other.details


def test_the_command_is_that_of_the_perturbed_pose(town, sources):
    differs = 0
    for situation in situations(sources["published"], 60):
        route_m = town.route(situation.moment.seat)
        if route_m is not None:
            expected = command_from_route(route_m, situation.ego.pose)
            assert situation.command == expected
            differs += expected != situation.moment.command()
    assert differs > 0
    log = drive_log(STEADY)
    assert log.commands(EGO)[40] == Command.STRAIGHT


@pytest.mark.parametrize(("yaw_rad", "command"), [(0.14, Command.RIGHT), (0.05, Command.STRAIGHT)])
def test_a_vehicle_that_is_turned_away_is_asked_to_turn_back(tmp_path, yaw_rad, command):
    situation = at_step(drive_log(STEADY), tmp_path, 40, yaw_rad=yaw_rad)
    assert situation.command is command


def test_who_stands_does_not_slide(tmp_path):
    speeds = np.concatenate([np.full(60, 5.0), np.linspace(5.0, 0.0, 40), np.zeros(40),
                             np.linspace(0.0, 6.0, 40), np.full(40, 6.0)])  # fmt: skip
    log = drive_log(speeds)
    situation = at_step(log, tmp_path, 115, lateral_m=0.4, longitudinal_m=0.3, yaw_rad=0.05)
    assert complaints(situation) == set()
    assert np.abs(situation.path_m[:10]).max() < 1e-3
    assert situation.history[-1, 3] == pytest.approx(0.0, abs=1e-3)
    assert situation.path_m[-1, 0] > 3.0
    # Ahead of where it should stand, it does not drive back.
    assert situation.details["ends"] == "at its speed"


class TestWhatIsInTheWay:
    """Starts without a way back are dropped, for the right reason."""

    QUEUE = np.concatenate([np.zeros(60), np.linspace(0.0, 8.0, 60), np.full(30, 8.0)])
    WAITING_M = STOP_LINE_M - (LENGTH_M / 2 + AXLE_M) - 0.5  # Half a metre before the line.

    @pytest.mark.parametrize(
        ("light", "ahead_m", "dropped"),
        [(LightState.RED, 1.0, True), (LightState.RED, 0.2, False),
         (LightState.YELLOW, 1.0, False)],
    )  # fmt: skip
    def test_a_start_beyond_a_red_light(self, tmp_path, light, ahead_m, dropped):
        lights = np.where(np.arange(len(self.QUEUE)) < 60, light, LightState.GREEN)
        log = drive_log(self.QUEUE, light=lights, x_m=self.WAITING_M)
        result = at_step(log, tmp_path, 40, longitudinal_m=ahead_m)
        assert (result is Drop.RED_LIGHT) == dropped
        assert isinstance(result, Situation) != dropped

    @pytest.mark.parametrize(("z", "dropped"), [(0.0, True), (6.0, False)])
    def test_a_car_beside_the_path(self, tmp_path, z, dropped):
        # 0.4 m to its left; the ego starts as far to the left.
        other = np.tile([34.0, 2.3, z, 0.0], (len(STEADY), 1))
        result = at_step(drive_log(STEADY, others=[other]), tmp_path, 35, lateral_m=0.4)
        assert (result is Drop.COLLISION) == dropped

    def test_a_way_around_is_taken_where_there_is_one(self, tmp_path):
        # A car stands 8 m before its front, 0.4 m beside its path: it must be back before.
        other = np.tile([46.0, 2.3, 0.0, 0.0], (len(STEADY), 1))
        free, narrow = (
            at_step(drive_log(STEADY, others=others), tmp_path, 35, lateral_m=0.8)
            for others in ([], [other])
        )
        assert complaints(narrow) == set()
        assert narrow.details["return_m"] < free.details["return_m"]

    def test_the_edge_of_the_road(self, tmp_path):
        assert at_step(drive_log(STEADY), tmp_path, 40, lateral_m=3.0) is not Drop.OFF_ROAD
        verge = road()
        polygons = verge.polygons
        narrow = polygons.points_m * [1.0, 0.3, 1.0]  # 1.5 m to either side.
        narrow_road = replace(verge, polygons=replace(polygons, points_m=narrow))
        log = drive_log(STEADY, vector_map=narrow_road)
        assert isinstance(at_step(log, tmp_path, 40, lateral_m=0.5), Situation)
        assert at_step(log, tmp_path, 40, lateral_m=0.6) is Drop.OFF_ROAD

    def test_no_comfort(self, tmp_path):
        log = drive_log(np.full(120, 20.0), x_m=-150.0)
        assert isinstance(at_step(log, tmp_path, 40, curvature_1pm=0.005), Situation)
        assert at_step(log, tmp_path, 40, curvature_1pm=0.02) is Drop.INFEASIBLE

    def test_no_map(self, tmp_path):
        log = drive_log(STEADY, vector_map=road(drivable=False))
        assert at_step(log, tmp_path, 40) is Drop.NO_MAP

    def test_standing(self, tmp_path):
        assert at_step(drive_log(np.zeros(120)), tmp_path, 40) is Drop.STANDING
        assert at_step(drive_log(self.QUEUE), tmp_path, 2) is Drop.STANDING

    def test_reversing(self, tmp_path):
        speeds = np.concatenate([np.full(60, 4.0), np.full(60, -2.0), np.full(60, 4.0)])
        assert at_step(drive_log(speeds), tmp_path, 40) is Drop.NO_MOTION


@pytest.fixture(scope="module")
def real_logs():
    folder = Path(os.environ.get("RAP_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real driving data: RAP_DATA is not set and {folder} does not exist")
    scenes = (folder / "nuscenes" / "scenes" / f"scene-{number}.npz" for number in ("0757", "1077"))
    return [log_of(recording_of(read_nuscenes(scene))) for scene in scenes]


@pytest.mark.parametrize("preset", ["default", "published"])
def test_real_drives_give_labels_that_pass(real_logs, preset):
    for situation in situations(source_of(real_logs, preset=preset), 12):
        assert complaints(situation) == set(), situation.details
