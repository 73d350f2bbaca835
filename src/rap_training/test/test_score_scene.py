"""Scores belong to the state that a sample shows: its ego, its seat, its traffic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from edit_worlds import EGO, LEADER, ONCOMING, stage_of, write_world
from hypothesis import given
from hypothesis import strategies as st
from source_draws import situations

from rap_evaluation.metrics.pdm_scene import StateIndex
from rap_evaluation.metrics.pdm_simulator import resample, simulate
from rap_evaluation.metrics.teacher import lesson
from rap_evaluation.moments import Moment
from rap_evaluation.pseudo_sim.log_scene import FRAMES
from rap_raster.ego_history import EgoState
from rap_raster.frames import to_local, to_parent
from rap_training.augmentation.edits.scene_edit import EditKind, edited, nobody, of_track
from rap_training.augmentation.edits.source import EditSource
from rap_training.augmentation.recorded import (
    CrossAgentSource,
    EgoSource,
    as_recorded,
    path_ahead_m,
)
from rap_training.augmentation.score_scene import ScoreScenes, initial_state
from rap_training.augmentation.situation import SourceKind
from rap_training.config import ClassShares, CrossAgentConfig, EditConfig, EgoConfig, ModelConfig

MODEL = ModelConfig()
STEP = 40
SCORED_S = 4.0


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("worlds") / "straight")


@pytest.fixture(scope="module")
def scenes():
    return ScoreScenes(MODEL.history_dt_s)


def at(log, seat=EGO, step=STEP):
    moment = Moment(log, seat, step)
    return as_recorded(moment, SourceKind.EGO, path_ahead_m(moment, MODEL), MODEL)


def moved(situation, left_m, turned_rad):
    """The ego beside its path, with a label that leads to the same place on the map."""
    here = situation.ego.planar
    x, y, yaw = to_parent(here, [0.0, left_m, turned_rad])
    ego = replace(situation.ego, x_m=float(x), y_m=float(y), yaw_rad=float(yaw))
    path_m = to_local(ego.planar, to_parent(here, situation.path_m))
    return replace(situation, ego=ego, path_m=path_m)


def scores(scene, situation):
    label = situation.future_m(MODEL.horizon_steps, MODEL.dt_s)
    found = lesson(scene, label[None], MODEL.dt_s).scores
    return {name: values[0] for name, values in found.items()}


SOURCES = [
    lambda log: EgoSource([log], EgoConfig(standing_share=0.0), MODEL),
    lambda log: CrossAgentSource(
        [log], CrossAgentConfig(class_shares=ClassShares(motorcycle=1.0)), MODEL
    ),
    lambda log: EditSource([log], EditConfig(), MODEL),
]


@pytest.mark.parametrize("source", SOURCES, ids=["ego", "cross_agent", "edit"])
def test_a_proposal_that_is_the_label_ends_where_the_label_ends(edited_town, scenes, source):
    # Frames of labels and scores agree: the mistake of the published code, 9.2 no. 19.
    for situation in situations(source(edited_town), 8):
        scene = scenes.scene(situation)
        label = situation.future_m(MODEL.horizon_steps, MODEL.dt_s)
        poses = resample(label[None], MODEL.dt_s, scene.initial_state[:3])
        driven = simulate(scene.initial_state, poses)[0]
        row = round(SCORED_S / situation.moment.log.dt_s) - 1
        end = to_parent(situation.ego.planar, situation.path_m[row])
        assert driven[0, :3] == pytest.approx(situation.ego.planar)
        # The tracker looks a second ahead: it is early by some metres of braking at most.
        assert np.hypot(*(driven[-1] - np.pad(end, (0, 8)))[:2]) < 2.5


def test_labels_of_edits_collide_with_nobody_and_stay_on_the_road(edited_town, scenes):
    source = EditSource([edited_town], EditConfig(), MODEL)
    for start in range(len(source)):
        situation = source.situation(start, np.random.default_rng(0))
        found = scores(scenes.scene(situation), situation)
        assert found["no_at_fault_collisions"] == 1.0
        assert found["drivable_area_compliance"] == 1.0


@given(st.floats(-1.0, 1.0), st.floats(-0.2, 0.2))
def test_scores_start_from_the_perturbed_state(world, scenes, left_m, turned_rad):
    recorded = at(world)
    perturbed = moved(recorded, left_m, turned_rad)
    scene, original = scenes.scene(perturbed), scenes.scene(recorded)
    assert to_local(recorded.ego.planar, scene.initial_state[:3]) == pytest.approx(
        [0.0, left_m, turned_rad]
    )
    assert (scene.agents.states == original.agents.states).all()
    ahead = np.zeros((1, 10, 3))
    ahead[0, :, 0] = 4.0 * np.arange(1, 11)
    ends = [
        simulate(s.initial_state, resample(ahead, 0.5, s.initial_state[:3]))[0, -1, :3]
        for s in (original, scene)
    ]
    assert to_local(recorded.ego.planar, ends[1]) == pytest.approx(
        to_parent([0.0, left_m, turned_rad], to_local(recorded.ego.planar, ends[0])), abs=1e-6
    )


def test_a_perturbed_start_scores_otherwise(world, scenes):
    recorded = at(world)
    off = moved(recorded, -1.5, 0.0)  # Half off the road.
    assert scores(scenes.scene(recorded), recorded)["drivable_area_compliance"] == 1.0
    assert scores(scenes.scene(off), off)["drivable_area_compliance"] == 0.0


def test_the_seat_is_no_obstacle_and_the_true_ego_is_one(world, scenes):
    scene = scenes.scene(at(world, LEADER))
    assert set(scene.agents.tokens) == {str(EGO), str(ONCOMING)}
    row = scene.agents.tokens.index(str(EGO))
    assert scene.agents.states.shape[1] == FRAMES
    assert scene.agents.states[row, 0, :2] == pytest.approx(world.states(EGO)[STEP, :2])
    assert scene.initial_state[:3] == pytest.approx(world.ego_state(STEP, LEADER).planar)


def test_edited_road_users_and_lights_are_in_the_scene(world, scenes):
    gone = edited(world, of_track(EditKind.REMOVE, 0.0, LEADER, nobody(world)), STEP)
    tokens = scenes.scene(at(gone)).agents.tokens
    assert str(LEADER) not in tokens
    assert str(ONCOMING) in tokens
    stage = stage_of(world, STEP)
    switched = replace(
        of_track(EditKind.LIGHT, 0.0, 0, nobody(world)),
        lights=np.array([0], np.int32),
        light_state=30,
        light_step=STEP + 10,
    )
    red = scenes.scene(at(edited(stage.moment.log, switched, STEP))).red_lights.red
    assert not scenes.scene(at(world)).red_lights.red.any()
    assert red[0].tolist() == [False] * 10 + [True] * (FRAMES - 10)


def test_without_a_route_the_way_is_the_label(world, scenes):
    situation = at(world)
    lost = edited(world, of_track(EditKind.REMOVE, 0.0, LEADER, nobody(world)), STEP)
    log = lost.with_traffic(lost.tracks, lost.lights)
    log.origin = log
    log._routes = {}
    scene = ScoreScenes(MODEL.history_dt_s).scene(at(log))
    along = to_local(situation.ego.planar, scene.centerline_m)
    assert along[0] == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert np.abs(along[:, 1]).max() < 1e-6
    assert along[-1, 0] > 100.0
    assert scores(scene, situation)["ego_progress"] == 1.0


@given(st.floats(3.0, 15.0), st.floats(-0.05, 0.05))
def test_the_first_state_holds_the_curve_that_is_driven(speed_mps, curvature):
    ego = EgoState(0, 1.0, 2.0, 0.0, 0.3, speed_mps, 0.0, speed_mps * curvature)
    history = np.zeros((2, 7), np.float32)
    history[:, 3], history[:, 6] = (speed_mps - 0.5, speed_mps), 1.0
    state = initial_state(ego, history, 0.5)
    assert state[StateIndex.AX] == pytest.approx(1.0, abs=1e-5)
    # Held for one step, these wheels turn the car as much as its yaw rate says.
    after = simulate(state, np.tile(state[:3], (1, 41, 1)))[0, 1]
    assert after[2] - state[2] == pytest.approx(0.1 * ego.yaw_rate_radps, abs=1e-9)


def test_a_history_that_has_just_begun_gives_no_acceleration():
    ego = EgoState(0, 0.0, 0.0, 0.0, 0.0, 8.0, 0.0, 0.0)
    assert initial_state(ego, np.zeros((4, 7), np.float32), 0.5)[StateIndex.AX] == 0.0
