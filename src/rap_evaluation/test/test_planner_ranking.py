"""Does pseudo-simulation rank planners as driving does? Planners of known different quality."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from rap_evaluation.closed_loop.drive import drive
from rap_evaluation.closed_loop.place import open_place
from rap_evaluation.closed_loop.routes import draw_routes
from rap_evaluation.closed_loop.scores import score_drive
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.metrics.two_stage import two_stage_score
from rap_evaluation.planners.constant_velocity import ConstantVelocity
from rap_evaluation.planners.expert_planner import ExpertPlanner
from rap_evaluation.planners.observation import Plan
from rap_evaluation.pseudo_sim.protocol import Stage, as_frames, draw_moments
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.recorder import record
from rap_evaluation.traffic.simulation import RecordOptions
from rap_evaluation.traffic.towns import town_path
from rap_raster.frames import to_local, to_parent
from rap_raster.scene import Boxes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("libsumo", "sumo", "py123d")),
        reason="SUMO or the towns are not installed: run make setup",
    ),
]
ROUTES, SCENES = 1, 4


class Expert:
    """PDM-Closed, as good as it gets; the others lack something."""

    def __init__(self, vector_map):
        self.inner = ExpertPlanner(vector_map)

    def plan(self, observation):
        around = self.see(observation.surroundings)
        return self.inner.plan(replace(observation, surroundings=around))

    def see(self, surroundings):
        return surroundings


class SeesNoLights(Expert):
    def see(self, surroundings):
        return replace(surroundings, signals={})


class SeesNobody(Expert):
    def see(self, surroundings):
        return replace(surroundings, boxes=Boxes.empty())


class SeesNothing(Expert):
    def see(self, surroundings):
        return replace(surroundings, boxes=Boxes.empty(), signals={})


class GoesStraight:
    def __init__(self, vector_map):
        self.inner = ConstantVelocity()

    def plan(self, observation):
        return self.inner.plan(observation)


class GoesInCircles(GoesStraight):
    def plan(self, observation):
        plan, here, curvature = self.inner.plan(observation), observation.ego.planar, 0.02
        turn = curvature * to_local(here, plan.poses_m)[:, 0]
        arc = [np.sin(turn) / curvature, (1.0 - np.cos(turn)) / curvature, turn]
        return Plan(to_parent(here, np.column_stack(arc)), plan.dt_s)


PLANNERS = (
    Expert,
    SeesNoLights,
    SeesNobody,
    SeesNothing,
    GoesStraight,
    GoesInCircles,
)


def driving_scores():
    place = open_place(town_path("Town02"), default_cache())
    routes = draw_routes(place, ROUTES, seed=3)
    return [
        np.mean([
            score_drive(drive(place, route, make(place.map), replan_hz=2)).driving_score
            for route in routes
        ])
        for make in PLANNERS
    ]  # fmt: skip


def pseudo_scores(folder):
    write_log(folder, record(town_path("Town02"), RecordOptions(40.0, 11, 60, 15), default_cache()))
    log = DriveLog.open(folder)
    moments = draw_moments([log], SCENES, seed=0)
    scores = []
    for make in PLANNERS:
        stage = Stage(log, make(log.map), "near")
        frames, scenes = as_frames([stage.play(moment) for moment in moments])
        scores.append(two_stage_score(frames, scenes).combined[-1])
    return scores


def test_pseudo_simulation_ranks_planners_as_the_closed_loop_does(tmp_path):
    driving, pseudo = driving_scores(), pseudo_scores(tmp_path)
    table = list(zip([make.__name__ for make in PLANNERS], driving, pseudo, strict=True))
    assert spearmanr(driving, pseudo).statistic >= 0.8, table
    assert driving[0] == max(driving)
    assert pseudo[0] == max(pseudo)
