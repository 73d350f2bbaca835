from __future__ import annotations

from pathlib import Path

import pytest

from rap_bringup.graph_params import GUARD, RASTER, load_params
from rap_bringup.paths import DEFAULT_BUNDLE, SIM_PARAMS, resource
from rap_evaluation.sim_commands import SIM, sim_params
from rap_inference.bundle import load_bundle
from rap_raster.step_pacer import StepPacer

OBJECTS_NS = 100_000_000
"""The simulation publishes objects ten times a second."""


def params(replan_hz: int):
    return sim_params(load_bundle(resource(DEFAULT_BUNDLE)), Path("x.xodr"), "raster", replan_hz)


def test_the_shipped_file_has_what_the_command_sets_for_its_replan_hz():
    """The launch file takes it as it is; a rate changed alone leaves most instants unplanned."""
    shipped = load_params(resource(SIM_PARAMS))
    computed = params(shipped[SIM]["replan_hz"])
    for node in (RASTER, GUARD, SIM):
        for name, value in shipped[node].items():
            assert computed[node][name] == pytest.approx(value), name


@pytest.mark.parametrize("replan_hz", [1, 2, 5, 10])
def test_every_planning_instant_is_a_step_and_its_plan_lasts_until_the_next_one(replan_hz):
    found = params(replan_hz)
    pacer = StepPacer(found[RASTER]["rate_hz"])
    due = [index for index in range(51) if pacer.is_due(index * OBJECTS_NS)]
    assert due == list(range(0, 51, 10 // replan_hz))
    assert found[GUARD]["limits.candidate_age_s"] > 1.0 / replan_hz
    assert found[RASTER]["sync.frame_timeout_s"] > 1.0 / replan_hz
