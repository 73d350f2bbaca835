"""Does the closed loop tell good drivers from bad ones, on a town nothing was tuned on?"""

from __future__ import annotations

import importlib.util

import pytest

from rap_evaluation.closed_loop.drive import drive
from rap_evaluation.closed_loop.place import open_place
from rap_evaluation.closed_loop.routes import draw_routes
from rap_evaluation.closed_loop.scores import score_drive
from rap_evaluation.planners.choice import CONSTANT_VELOCITY, PDM_CLOSED, planner_maker
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.towns import town_path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("libsumo", "sumo", "py123d")),
        reason="SUMO or the towns are not installed: run make setup",
    ),
]


@pytest.fixture(scope="module")
def drives():
    place = open_place(town_path("Town10HD"), default_cache())
    routes = draw_routes(place, 2, seed=7)
    return {
        name: [
            drive(place, route, planner_maker(name, "raster")(place.map), replan_hz=2)
            for route in routes
        ]
        for name in (PDM_CLOSED, CONSTANT_VELOCITY)
    }


def test_pdm_closed_arrives_on_every_route_and_hits_nobody_by_its_fault(drives):
    assert [driven.failure for driven in drives[PDM_CLOSED]] == ["", ""]
    assert [score_drive(driven).collisions_at_fault for driven in drives[PDM_CLOSED]] == [0, 0]


def test_constant_velocity_arrives_nowhere_since_every_route_turns(drives):
    assert all(driven.failure for driven in drives[CONSTANT_VELOCITY])
    assert all(score_drive(driven).completion < 0.9 for driven in drives[CONSTANT_VELOCITY])
