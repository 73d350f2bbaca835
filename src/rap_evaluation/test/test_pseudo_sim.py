"""Pseudo-simulation: starts beside a logged drive, the two stages, and the report."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rap_evaluation.cli import app
from rap_evaluation.expert.pdm_closed import PdmClosed
from rap_evaluation.expert.road_areas import RoadAreas
from rap_evaluation.kept_arrays import KeptArrays
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.metrics.frame_score import SUB_SCORES
from rap_evaluation.metrics.pdm_scene import STATES, StateIndex
from rap_evaluation.metrics.two_stage import two_stage_score
from rap_evaluation.moments import Moment
from rap_evaluation.open_loop import LogDriver, open_loop_report
from rap_evaluation.planners.choice import planner_maker
from rap_evaluation.planners.constant_velocity import ConstantVelocity
from rap_evaluation.planners.expert_planner import ExpertPlanner
from rap_evaluation.planners.observation import Plan
from rap_evaluation.pseudo_sim import evaluation
from rap_evaluation.pseudo_sim.evaluation import PseudoSimOptions, evaluate_pseudo_sim
from rap_evaluation.pseudo_sim.frames import score_frame
from rap_evaluation.pseudo_sim.log_scene import FRAMES
from rap_evaluation.pseudo_sim.protocol import Stage, as_frames, draw_moments
from rap_evaluation.pseudo_sim.seat_drive import SeatDrive, Start
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.recorder import record
from rap_evaluation.traffic.simulation import RecordOptions
from rap_evaluation.traffic.towns import town_path
from rap_inference.bundle import load_bundle
from rap_planner.patience import WAITING_MPS
from rap_planner.planner import PATIENCE_S
from rap_raster.ego_history import EgoHistory
from rap_raster.frames import to_local

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("libsumo", "sumo", "py123d")),
        reason="SUMO or the towns are not installed: run make setup",
    ),
]
BUNDLE = Path(__file__).parents[3] / "models" / "default"
needs_bundle = pytest.mark.skipif(
    not (BUNDLE / "bundle.yaml").is_file(), reason="models/default is not there: run make bundle"
)
OPTIONS = RecordOptions(seconds=20.0, seed=5, vehicles=40, pedestrians=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("logs")
    write_log(path / "town", record(town_path("Town02"), OPTIONS, default_cache()))
    return path


@pytest.fixture(scope="module")
def log(folder):
    return DriveLog.open(folder / "town")


@pytest.fixture(scope="module")
def moment(log):
    return draw_moments([log], 1, seed=0)[0]


@pytest.fixture(scope="module")
def drive(log, moment):
    return SeatDrive(log, moment.seat, RoadAreas(log.map))


def options(folder, tmp_path, **changes):
    given = PseudoSimOptions("constant-velocity", "raster", folder, tmp_path, scenes=2, seed=0)
    return replace(given, **changes)


def test_a_recorded_start_is_where_the_log_says(log, moment, drive):
    ego = log.ego_state(moment.step, moment.seat)
    observation = drive.observation(Start(moment.step))
    assert observation.ego == ego
    assert observation.state[:3] == pytest.approx(ego.planar)
    past = observation.history.at(int(log.stamps_ns[moment.step - 10]))
    assert past == log.ego_state(moment.step - 10, moment.seat)


def test_a_moved_start_lies_beside_the_path_and_keeps_its_past(moment, drive):
    start = Start(moment.step, ahead_m=3.0, left_m=0.6)
    recorded, moved = drive.state(Start(moment.step)), drive.state(start)
    # Places 3 m along the driven path are at most 3 m away, and 0.6 m across it.
    ahead = drive.state(Start(moment.step, ahead_m=3.0))
    assert np.hypot(*(ahead - recorded)[:2]) == pytest.approx(3.0, abs=0.05)
    assert to_local(ahead[:3], moved[:3])[:2] == pytest.approx([0.0, 0.6])
    assert moved[StateIndex.VX] == pytest.approx(recorded[StateIndex.VX] + 3.0 / 4.0)
    for step in (moment.step - 15, moment.step - 5):
        before = to_local(recorded[:3], drive.states(Start(moment.step), np.array([step]))[0, :3])
        past = drive.states(start, np.array([step]))[0]
        assert to_local(moved[:3], past[:3]) == pytest.approx(before)


def test_a_turned_start_turns_its_past_along(moment, drive):
    straight, turned = (Start(moment.step, left_m=0.6, yaw_rad=yaw) for yaw in (0.0, 0.1))
    assert to_local(drive.state(straight)[:3], drive.state(turned)[:3]) == pytest.approx(
        [0.0, 0.0, 0.1]
    )
    recorded, moved, both = (
        to_local(drive.state(start)[:3], drive.states(start, moment.step - np.arange(10))[:, :3])
        for start in (Start(moment.step), straight, turned)
    )
    assert moved == pytest.approx(recorded)
    assert both == pytest.approx(recorded)


def test_a_scene_holds_everybody_else_where_they_were(log, moment, drive):
    scene, _ = drive.scene(Start(moment.step))
    agents = scene.agents
    assert str(moment.seat) not in agents.tokens
    assert len(agents) > 3
    for token, states in zip(agents.tokens, agents.states, strict=True):
        track = int(token)
        first, last = log.first_step(track), log.last_step(track)
        for frame in (0, 20, STATES - 1):
            step = moment.step + frame
            if first <= step <= last:
                assert states[frame, :2] == pytest.approx(log.states(track)[step - first, :2])
            else:
                assert np.isnan(states[frame]).all()


def test_red_lights_of_a_scene_are_those_of_the_log(log, drive, moment):
    scene, _ = drive.scene(Start(moment.step))
    lights = {lane: k for k, lane in enumerate(log.lights.lane_ids)}
    for area, red in zip(scene.red_lights.areas, scene.red_lights.red, strict=True):
        states = log.lights.states[
            moment.step : moment.step + FRAMES, lights[scene.areas.ids[area]]
        ]
        assert red.tolist() == (states == 30).tolist()


class Driver:
    """Plans what was driven: a planner that cannot be better."""

    def __init__(self, drive, step):
        self._poses = drive.driven(step)

    def plan(self, observation):
        return Plan(self._poses[1:], 0.1)


def test_the_driven_path_scores_full_marks(log, moment, drive):
    start = Start(moment.step)
    expert = PdmClosed(log.map.lanes)
    frame = score_frame(drive, start, Driver(drive, moment.step), expert)
    scores = dict(zip(SUB_SCORES, frame.sub_scores, strict=True))
    # What the driver gets zero for is forgiven, so only progress and half marks could be missing.
    assert scores.pop("ego_progress") > 0.5
    assert all(score == 1.0 for score in scores.values())
    assert frame.endpoint_m == pytest.approx(drive.driven(moment.step)[-1, :2])


def test_stages_are_half_a_second_and_four_seconds_apart(log, moment):
    stage = Stage(log, ConstantVelocity())
    frames, (scene,) = as_frames([stage.play(moment)])
    row = frames.rows[scene.current]
    assert frames.recorded.sum() == 2
    assert frames.times_s[row] - frames.times_s[frames.rows[scene.previous]] == pytest.approx(0.5)
    for now, before in scene.follow_ups:
        assert frames.times_s[frames.rows[now]] - frames.times_s[row] == pytest.approx(4.0)
        assert frames.times_s[frames.rows[before]] - frames.times_s[row] == pytest.approx(3.5)


def test_near_starts_score_as_all_of_them_do(log):
    """The whole grid is the reference; scenes in which a plan ends far from it may differ a bit."""
    found = set()
    for moment in draw_moments([log], 4, seed=0):
        every = Stage(log, ConstantVelocity()).play(moment)
        near = Stage(log, ConstantVelocity(), "near").play(moment)
        starts = [[now.start for now, _ in scene.pairs] for scene in (every, near)]
        assert starts[1] == [start for start in starts[0] if start in starts[1]]
        assert len(starts[1]) <= 0.6 * len(starts[0])
        score, kept = (two_stage_score(*as_frames([scene])) for scene in (every, near))
        assert kept.uniform_groups == score.uniform_groups
        margin = 0.05 if score.uniform_groups else 1e-3
        assert kept.combined[-1] == pytest.approx(score.combined[-1], abs=margin)
        found.add(score.uniform_groups > 0)
    assert found == {True, False}


def test_off_the_path_who_finds_back_is_better_than_who_goes_straight_on(log):
    """With a heading error of 0.1 rad the latter is 2 m beside the lane after 20 m."""
    scores = []
    moments = draw_moments([log], 3, seed=0)
    for planner in (ExpertPlanner(log.map), ConstantVelocity()):
        frames = [
            frame
            for moment in moments
            for frame in Stage(log, planner, "near").play(moment, off_path=True).off_path
        ]
        assert {abs(frame.start.yaw_rad) for frame in frames} == {0.1}
        assert {abs(frame.start.left_m) for frame in frames} == {0.6, 1.2}
        assert {frame.start.step for frame in frames} == {moment.step + 40 for moment in moments}
        scores.append(np.array([frame.sub_scores for frame in frames]))
    assert len(scores[0]) == len(scores[1]) < 3 * 8  # Some starts would be off the road.
    found, lost = (table[:, SUB_SCORES.index("drivable_area_compliance")] for table in scores)
    assert found.mean() > lost.mean() + 0.2


def test_plans_off_the_path_are_scored_in_one_scene_of_so_many_of_every_log(folder, tmp_path):
    both = tmp_path / "logs"
    for name in ("a", "b"):
        shutil.copytree(folder / "town", both / name)
    given = options(both, tmp_path, scenes=4, starts="near")
    plain, every, second = (
        evaluate_pseudo_sim(replace(given, off_path_every=count)) for count in (None, 1, 2)
    )
    assert plain["off_path"] == {}
    assert 0 < second["off_path"]["starts"] < every["off_path"]["starts"] <= 4 * 8
    assert {*SUB_SCORES, "starts", "score"} == every["off_path"].keys()
    for figure in ("epdms", "stage_one", "stage_two", "per_scene"):
        assert every[figure] == plain[figure]


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory):
    return evaluate_pseudo_sim(options(folder, tmp_path_factory.mktemp("report")))


def test_same_seed_same_report(folder, report, tmp_path):
    again = evaluate_pseudo_sim(options(folder, tmp_path))
    assert report | {"timing": None} == again | {"timing": None}
    written = json.loads((tmp_path / "report.json").read_text())
    assert {"epdms", "stage_one", "stage_two", "scenes"} <= written.keys()
    assert written["scenes"] == 2


@needs_bundle
def test_what_is_kept_changes_no_figure(folder, tmp_path, monkeypatch):
    given = options(folder, tmp_path, planner=str(BUNDLE), sensor="camera", scenes=1, starts="near")
    plain, first = (
        evaluate_pseudo_sim(replace(given, kept=kept)) for kept in (None, tmp_path / "kept")
    )
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.npy")}
    monkeypatch.setattr(evaluation, "draw_moments", None)
    second = evaluate_pseudo_sim(replace(given, kept=tmp_path / "kept"))
    assert plain | {"timing": None} == first | {"timing": None} == second | {"timing": None}
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.npy")}
    kinds = {path.relative_to(tmp_path / "kept").parts[0] for path in made}
    assert kinds == {"moments", "references", "cameras"}


@pytest.fixture(scope="module")
def standing(log):
    """Two moments, farther apart than a planner waits, of vehicles that stand and have a route."""
    found = [
        Moment(log, seat, step)
        for seat in log.seats(min_steps=30)
        if log.route_lanes(seat) is not None
        for step in (log.first_step(seat) + 20, log.last_step(seat))
        if abs(log.existing_ego(step, seat).vx_mps) < WAITING_MPS
    ]
    found.sort(key=lambda moment: moment.step)
    assert (found[-1].step - found[0].step) * log.dt_s > PATIENCE_S + 1.0
    return found[0], found[-1]


@needs_bundle
def test_open_loop_frames_do_not_depend_on_those_before_them(standing):
    """On a drive, waiting from the first moment to the second would cost score; these are two."""
    first, second = standing
    driver = LogDriver(load_bundle(BUNDLE))
    driver.plan(first)
    _, alone = LogDriver(load_bundle(BUNDLE)).plan(second)
    np.testing.assert_array_equal(driver.plan(second)[1], alone)


@needs_bundle
def test_open_loop_sees_with_the_sensor_that_it_is_given(log, tmp_path):
    sensors = ("raster", "camera", "camera")
    raster, camera, again = (
        open_loop_report(
            LogDriver(load_bundle(BUNDLE), sensor, KeptArrays(tmp_path)), [log], count=3
        )
        for sensor in sensors
    )
    assert camera == again
    assert camera.min_ade_3s_m != raster.min_ade_3s_m
    assert camera.ade_3s_constant_velocity_m == raster.ade_3s_constant_velocity_m
    assert len(list(tmp_path.rglob("*.npy"))) == 3


def waited(observation, until_ns: int):
    """What a planner sees that is asked twice a second, of a vehicle that stands all the time."""
    begin_ns, history = observation.ego.stamp_ns, EgoHistory()
    for stamp_ns in range(begin_ns - 3_000_000_000, until_ns, 100_000_000):
        ego = replace(observation.ego, stamp_ns=stamp_ns)
        history.add(ego)
        if stamp_ns >= begin_ns and (stamp_ns - begin_ns) % 500_000_000 == 0:
            yield replace(observation, ego=ego, history=history)


@needs_bundle
def test_pseudo_simulated_frames_do_not_depend_on_those_before_them(
    folder, standing, tmp_path, monkeypatch
):
    """Planners that drive, which have patience, are the ones that show the difference."""
    makers = []

    def made(*names, **settings):
        makers.append(planner_maker(*names, **settings))
        return lambda _: ConstantVelocity()

    monkeypatch.setattr(evaluation, "planner_maker", made)
    evaluate_pseudo_sim(options(folder, tmp_path, planner=str(BUNDLE), scenes=1, starts="near"))
    log = standing[0].log
    areas = RoadAreas(log.map)
    first, second = (
        SeatDrive(log, moment.seat, areas).observation(Start(moment.step)) for moment in standing
    )
    same = []
    for make in (makers[-1], planner_maker(str(BUNDLE), "raster")):
        planner = make(log.map)
        for waiting in waited(first, second.ego.stamp_ns):
            planner.candidates(waiting)
        later, alone = (each.candidates(second)[0].scores for each in (planner, make(log.map)))
        same.append(np.array_equal(later, alone))
    assert same == [True, False]


def test_a_cluster_gives_the_same_report(folder, report, tmp_path):
    there = evaluate_pseudo_sim(options(folder, tmp_path, ray_address="local"))
    assert report | {"timing": None} == there | {"timing": None}


def test_a_planner_that_fails_costs_its_scene_only(folder, tmp_path, monkeypatch):
    class Sometimes(ConstantVelocity):
        calls = 0

        def plan(self, observation):
            Sometimes.calls += 1
            if Sometimes.calls == 3:
                raise RuntimeError("no idea")
            return super().plan(observation)

    monkeypatch.setattr(evaluation, "planner_maker", lambda *_, **__: lambda _: Sometimes())
    report = evaluate_pseudo_sim(options(folder, tmp_path))
    assert report["scenes"] == 1
    assert list(report["failed"].values()) == ["planner: RuntimeError: no idea"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--planner", "nobody"], "expected constant-velocity, pdm-closed or a bundle folder"),
        (["--sensor", "lidar"], "expected one of raster, camera"),
        (["--logs", "nowhere"], "no logs there"),
        (["--ray", "nonsense"], "expected local or HOST:PORT"),
    ],
)
def test_wrong_arguments_are_told(folder, tmp_path, arguments, message):
    given = ["pseudo-sim", "--planner", "constant-velocity", "--logs", str(folder)]
    result = CliRunner().invoke(app, [*given, "--out", str(tmp_path), *arguments])
    assert result.exit_code != 0
    assert message in str(result.exception)
