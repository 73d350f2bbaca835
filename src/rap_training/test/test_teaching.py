"""What the scorer learns is what the driving score says of the very same proposals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shapely import Polygon, affinity, box
from source_draws import situations

from rap_evaluation.metrics.pdm_kernels import NON_DRIVABLE, ONCOMING
from rap_evaluation.metrics.pdm_scene import Agents, AreaMap, PdmScene, RedLights
from rap_evaluation.metrics.teacher import LESSON_SCORES, lesson
from rap_raster.vehicle import PACIFICA
from rap_training.augmentation.recorded import EgoSource
from rap_training.augmentation.score_scene import ScoreScenes
from rap_training.config import EgoConfig, LossConfig, ModelConfig
from rap_training.model.scores import TAUGHT
from rap_training.teaching import (
    AGENT_TIMES_S,
    Auxiliaries,
    Lessons,
    Teacher,
    auxiliary_loss,
    nearest_agents,
    with_room,
)

MODEL = ModelConfig()
HERE = np.array([300.0, -120.0, 2.2])
NEAR_M = 20.0
NO_ROOM = (0.0, 0.0)


def scene_of(states: np.ndarray, sizes_m: np.ndarray) -> PdmScene:
    """A scene of agents alone, the ego anywhere on the map."""
    nothing = np.zeros(0, np.int64)
    return PdmScene(
        initial_state=np.concatenate([HERE, np.zeros(8)]),
        areas=AreaMap((), nothing.astype(np.uint8), nothing.astype(bool), np.zeros(1, np.int64),
                      np.zeros((0, 2))),
        centerline_m=np.zeros((0, 3)),
        agents=Agents(tuple(map(str, range(len(states)))), np.zeros(len(states), np.uint8),
                      sizes_m, states),
        red_lights=RedLights(nothing, np.zeros((0, 51), bool)),
    )  # fmt: skip


def crowd(seed: int, count: int = 9) -> PdmScene:
    """Agents that drive around the ego; some come late, some leave, one is never there."""
    rng = np.random.default_rng(seed)
    start = HERE[:2] + rng.uniform(-40.0, 40.0, (count, 2))
    speed = rng.uniform(-8.0, 8.0, (count, 2))
    states = np.zeros((count, 51, 5))
    states[..., :2] = start[:, None] + 0.1 * np.arange(51)[:, None] * speed[:, None]
    states[..., 2] = rng.uniform(-np.pi, np.pi, (count, 1)) + 0.01 * np.arange(51)
    states[0, :15] = states[1, 25:] = states[2, ::2] = states[3] = np.nan
    return scene_of(states, rng.uniform(1.0, 6.0, (count, 2)))


def proposals(seed: int, count: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    along = np.linspace(0.1, 1.0, 10)[:, None] * rng.uniform(-30.0, 30.0, (count, 1, 2))
    return np.concatenate([along, rng.uniform(-1.0, 1.0, (count, 10, 1))], axis=-1)


def on_map(point) -> np.ndarray:
    cos, sin = np.cos(HERE[2]), np.sin(HERE[2])
    return HERE[:2] + np.array([[cos, -sin], [sin, cos]]) @ point


def seen_from_ego(point) -> np.ndarray:
    cos, sin = np.cos(HERE[2]), np.sin(HERE[2])
    return np.array([[cos, sin], [-sin, cos]]) @ (point - HERE[:2])


def apart_m(scene: PdmScene, pose, agent: int, time_s: float) -> float:
    state = scene.agents.states[agent, round(10 * time_s)]
    return np.inf if np.isnan(state[0]) else float(np.hypot(*(state[:2] - on_map(pose[:2]))))


def outline(scene: PdmScene, agent: int, time_s: float) -> Polygon:
    x, y, heading = scene.agents.states[agent, round(10 * time_s), :3]
    length, width = scene.agents.sizes_m[agent] / 2
    placed = affinity.rotate(box(-length, -width, length, width), heading, (0, 0), use_radians=True)
    return affinity.translate(placed, x, y)


@pytest.mark.parametrize("seed", range(6))
def test_the_agents_of_a_proposal_are_the_two_that_come_nearest(seed):
    scene, poses = crowd(seed), proposals(seed)
    corners, near = nearest_agents(scene, poses, 0.5)
    assert corners.shape == (5, 2, 4, 4, 2)
    assert near.shape == (5, 2, 4)
    for k, proposal in enumerate(poses):
        at = {time_s: proposal[round(2 * time_s) - 1] for time_s in AGENT_TIMES_S}
        closest = [
            min(apart_m(scene, at[time_s], agent, time_s) for time_s in AGENT_TIMES_S)
            for agent in range(len(scene.agents))
        ]
        for slot, agent in enumerate(np.argsort(closest)[:2]):
            for t, time_s in enumerate(AGENT_TIMES_S):
                there = apart_m(scene, at[time_s], agent, time_s) < NEAR_M
                assert near[k, slot, t] == there
                if there:
                    expected = outline(scene, agent, time_s)
                    found = Polygon([on_map(corner) for corner in corners[k, slot, t]])
                    assert found.symmetric_difference(expected).area < 1e-6


def test_corners_go_round_from_the_front_left_whoever_looks():
    state = np.zeros((1, 51, 5))
    state[0, :, :2], state[0, :, 2] = HERE[:2] + 3.0, 0.7
    corners, near = nearest_agents(scene_of(state, np.array([[4.0, 2.0]])), proposals(0), 0.5)
    forward = seen_from_ego(HERE[:2] + np.array([np.cos(0.7), np.sin(0.7)]))
    left = np.array([-forward[1], forward[0]])
    middle = seen_from_ego(state[0, 0, :2])
    signs = [(1, 1), (1, -1), (-1, -1), (-1, 1)]
    expected = np.array([middle + 2.0 * a * forward + 1.0 * b * left for a, b in signs])
    np.testing.assert_allclose(corners[0, 0, 0], expected, atol=1e-9)
    assert not near[:, 1].any()  # There is only one.
    assert (corners[:, 1] == 0.0).all()


def test_agents_that_are_never_there_are_near_nobody():
    absent = np.full((3, 51, 5), np.nan)
    for states in (absent, absent[:0]):
        corners, near = nearest_agents(
            scene_of(states, np.ones((len(states), 2))), proposals(1), 0.5
        )
        assert not near.any()
        assert np.isfinite(corners).all()


@pytest.fixture(scope="module")
def moments(town_log):
    """Real scenes of a town and, for each, the driven future and ways beside it."""
    seen = situations(EgoSource([town_log], EgoConfig(standing_share=0.0), MODEL), 4)
    scores = ScoreScenes(MODEL.history_dt_s)
    scenes = [scores.scene(situation) for situation in seen]
    labels = np.stack([s.future_m(MODEL.horizon_steps, MODEL.dt_s) for s in seen])
    beside = np.array([[0.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, -8.0, 0.0], [6.0, 0.0, 0.0]])
    share = np.linspace(0.1, 1.0, MODEL.horizon_steps)[:, None]
    return scenes, labels[:, None] + beside[:, None] * share


def test_lessons_are_those_of_each_sample_in_its_own_scene(moments):
    scenes, poses = moments
    found = Teacher(MODEL.dt_s, NO_ROOM).lessons(scenes, torch.from_numpy(poses).float())
    assert TAUGHT == LESSON_SCORES
    for row, scene in enumerate(scenes):
        alone = lesson(scene, poses[row].astype(np.float32).astype(float), MODEL.dt_s)
        for column, name in enumerate(TAUGHT):
            np.testing.assert_allclose(found.scores[row, :, column], alone.scores[name], atol=1e-6)
        for half_s in range(8):
            there = alone.areas[:, 5 * (half_s + 1)]
            np.testing.assert_array_equal(found.areas[row, :, half_s, 0], there[:, NON_DRIVABLE])
            np.testing.assert_array_equal(found.areas[row, :, half_s, 1], there[:, ONCOMING])
    assert found.areas[..., 0].any()  # Eight metres to the right is off the road,
    assert not found.areas[:, 0, :, 0].any()  # what was driven is not.
    assert found.scores[..., -1].min() == 0.0
    assert (found.scores[:, 0, -1] > found.scores[:, 2, -1]).all()


def test_lessons_do_not_depend_on_threads_and_carry_no_gradient(moments):
    scenes, poses = moments
    asked = torch.from_numpy(poses).float().requires_grad_()
    one, many = (Teacher(MODEL.dt_s, NO_ROOM, threads).lessons(scenes, asked) for threads in (1, 3))
    for name in ("scores", "areas", "corners", "near"):
        first, second = getattr(one, name), getattr(many, name)
        assert torch.equal(first, second)
        assert first.dtype == torch.float32
        assert not first.requires_grad


@pytest.mark.parametrize(
    ("gap_m", "driven_m", "room_m", "safe"),
    [
        # In the 4 s that are scored the tracker gets 8.7 m along a plan of 15 m, and 4.1 of 7 m.
        (10.0, 15.0, (0.0, 0.0), True),
        (10.0, 15.0, (3.0, 0.3), False),  # It gets into the room,
        (10.0, 7.0, (3.0, 0.3), True),  # or not.
        (1.0, 0.0, (3.0, 0.3), True),  # Who is in it already may stand there,
        (1.0, 2.0, (3.0, 0.3), False),  # and may not drive on.
    ],
)
def test_who_gets_into_the_room_of_a_standing_vehicle_touches_it(gap_m, driven_m, room_m, safe):
    front_m, length_m = PACIFICA.rear_axle_to_center_m + PACIFICA.length_m / 2, 4.0
    state = np.zeros((1, 51, 5))
    state[0, :, :2] = on_map(np.array([front_m + gap_m + length_m / 2, 0.0]))
    state[0, :, 2] = HERE[2]
    scene = scene_of(state, np.array([[length_m, 1.8]]))
    plan = np.zeros((1, 10, 3))
    plan[0, :, 0] = driven_m * np.linspace(0.1, 1.0, 10)
    found = lesson(with_room(scene, room_m), plan, MODEL.dt_s)
    assert found.scores["no_at_fault_collisions"][0] == float(safe)


def perfect(truth: Lessons) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Predictions that leave nothing to learn."""
    return 40.0 * (2.0 * truth.areas - 1.0), truth.corners, 40.0 * (2.0 * truth.near - 1.0)


def test_the_auxiliary_loss_ends_where_everything_is_known(moments):
    scenes, poses = moments
    truth = Teacher(MODEL.dt_s, NO_ROOM).lessons(scenes, torch.from_numpy(poses).float())
    config = LossConfig(area=2.0, agents=1.0)
    areas, corners, near = perfect(truth)
    assert auxiliary_loss((areas, corners, near), truth, config) < 1e-6
    assert auxiliary_loss((-areas, corners, near), truth, config) > 10.0
    assert auxiliary_loss((areas, corners, -near), truth, config) > 10.0
    off = auxiliary_loss((areas, corners + 20.0, near), truth, config)
    assert off.item() == pytest.approx(1.0, abs=1e-4)  # 20 m is the unit of the distance.
    alone = replace(truth, near=torch.zeros_like(truth.near))
    there = auxiliary_loss((areas, corners + 20.0, -40.0 * torch.ones_like(near)), alone, config)
    assert there < 1e-6  # Where nobody is near, no place is asked for.


def test_auxiliaries_predict_in_the_shape_of_lessons(moments):
    scenes, poses = moments
    truth = Teacher(MODEL.dt_s, NO_ROOM).lessons(scenes, torch.from_numpy(poses).float())
    areas, corners, near = Auxiliaries(MODEL)(torch.zeros(4, 4, 2 * MODEL.width))
    assert areas.shape == truth.areas.shape
    assert corners.shape == truth.corners.shape
    assert near.shape == truth.near.shape
