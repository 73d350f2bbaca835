"""The PDM scores against official outputs, down to the simulated states."""

import copy
import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rap_evaluation.metrics import pdm_kernels as kernels
from rap_evaluation.metrics.case_file import CaseError
from rap_evaluation.metrics.pdm import score_v1, score_v2
from rap_evaluation.metrics.pdm_measures import measure, without_initial_overlaps
from rap_evaluation.metrics.pdm_simulator import simulate
from rap_evaluation.pdm_cases.arrays import parse_case
from rap_raster.frames import wrap_angle

with gzip.open(Path(__file__).parent / "cases" / "pdm.json.gz") as _file:
    CASES = {case["name"]: case for case in json.load(_file)["cases"]}

TOLERANCE = {"ego_progress": 1e-6, "score": 1e-6}
NAMES = sorted(CASES)


def assert_row(row, expected):
    for key, value in expected.items():
        if not key.startswith("score_"):  # Other scores of the same sub-scores.
            assert row[key] == pytest.approx(value, abs=TOLERANCE.get(key, 0.0), rel=0.0), key


@pytest.mark.parametrize("name", NAMES)
def test_v1_reproduces_the_official_scores(name):
    case = CASES[name]
    result = score_v1(parse_case(case["input"], "v1"))
    assert result.keys() == case["expected"]["v1"].keys()
    for candidate, expected in case["expected"]["v1"].items():
        assert_row(result[candidate], expected)


@pytest.mark.parametrize("name", NAMES)
def test_v2_reproduces_the_official_scores(name):
    case = CASES[name]
    result = score_v2(parse_case(case["input"], "v2"))
    assert result.keys() == case["expected"]["v2"].keys()
    for candidate, rows in case["expected"]["v2"].items():
        assert result[candidate].keys() == rows.keys()
        for traffic, expected in rows.items():
            assert_row(result[candidate][traffic], expected)


@pytest.mark.parametrize("name", NAMES)
def test_states_and_steps_are_the_official_ones(name):
    debug = CASES[name]["debug"]["candidates"]
    case = parse_case(CASES[name]["input"], "v2")
    states = simulate(case.scene.initial_state, case.candidate_poses_m)
    official = np.array([debug[candidate]["simulated_states"] for candidate in case.names])
    difference = states - official
    difference[..., 2] = wrap_angle(difference[..., 2])
    assert np.abs(difference).max() < 1e-6
    replayed = replace(case.scene, agents=without_initial_overlaps(case.scene))
    for version, scene, key in (
        ("v1", parse_case(CASES[name]["input"], "v1").scene, "v1"),
        ("v2", replayed, "v2_non_reactive"),
    ):
        measures = measure(scene, states, version)
        for row, candidate in enumerate(case.names):
            expected = debug[candidate][key]
            assert measures.progress_m[row] == pytest.approx(expected["progress_raw_m"], abs=1e-6)
            steps = measures.first_collision_step[row], measures.first_ttc_step[row]
            official_steps = expected["first_at_fault_collision_idx"], expected["first_ttc_idx"]
            assert tuple(None if s == kernels.NEVER else s for s in steps) == official_steps
            for column, flag in enumerate(("multiple_lanes", "non_drivable", "oncoming")):
                assert measures.areas[row, :, column].tolist() == expected[flag], flag


def moved(poses, offset=(664430.25, 3998120.5, 2.4)):
    """Turns and shifts (..., >= 2) x, y[, heading] to UTM coordinates."""
    cos, sin = np.cos(offset[2]), np.sin(offset[2])
    result = poses.copy()
    result[..., 0] = offset[0] + cos * poses[..., 0] - sin * poses[..., 1]
    result[..., 1] = offset[1] + sin * poses[..., 0] + cos * poses[..., 1]
    if poses.shape[-1] > 2:
        result[..., 2] = wrap_angle(poses[..., 2] + offset[2])
    return result


@pytest.mark.parametrize("name", ["random_03", "random_04", "intersection_green"])
def test_scores_do_not_depend_on_where_the_scene_is(name):
    here = parse_case(CASES[name]["input"], "v1")
    agents = here.scene.agents
    velocities = moved(agents.states[..., 3:], (0.0, 0.0, 2.4))
    states = np.concatenate([moved(agents.states[..., :3]), velocities], axis=-1)
    scene = replace(
        here.scene,
        initial_state=moved(here.scene.initial_state),
        areas=replace(here.scene.areas, points_m=moved(here.scene.areas.points_m)),
        centerline_m=moved(here.scene.centerline_m),
        agents=replace(agents, states=states),
    )
    there = replace(
        here,
        scene=scene,
        candidate_poses_m=moved(here.candidate_poses_m),
        reference_poses_m=moved(here.reference_poses_m),
    )
    for candidate, row in score_v1(there).items():
        assert row == pytest.approx(score_v1(here)[candidate], abs=1e-6)


def test_a_plan_scores_the_same_alone_and_among_others():
    content = CASES["intersection_green"]["input"]
    together = score_v2(parse_case(content, "v2"))
    for name in content["candidates"]:
        alone = content | {"candidates": {name: content["candidates"][name]}}
        assert score_v2(parse_case(alone, "v2")) == {name: together[name]}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_case_does_not_bring_is_derived_from_its_map(name):
    content = CASES[name]["input"]
    given, derived = (parse_case(c, "v1") for c in (content, content | {"reference": {}}))
    assert sorted(derived.scene.areas.ids) == sorted(given.scene.areas.ids)
    on_route = [
        {key for key, route in zip(areas.ids, areas.on_route, strict=True) if route}
        for areas in (given.scene.areas, derived.scene.areas)
    ]
    assert on_route[0] == on_route[1]
    scores = score_v1(derived)
    for candidate, expected in CASES[name]["expected"]["v1"].items():
        for key, value in expected.items():
            if key not in ("ego_progress", "score"):  # These depend on who the reference is.
                assert scores[candidate][key] == value, (candidate, key)


def test_our_own_reference_is_about_as_fast_as_the_official_one():
    content = CASES["straight_free"]["input"]
    scores = score_v1(parse_case(content | {"reference": {}}, "v1"))
    for candidate, expected in CASES["straight_free"]["expected"]["v1"].items():
        assert scores[candidate]["ego_progress"] == pytest.approx(
            expected["ego_progress"], rel=0.05
        )


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("ego", "vx"), float("nan"), "ego.vx"),
        (("ego", "heading"), None, "ego.heading"),
        (("map", "lanes"), [], "drivable_map: the map has no LANE"),
        (("map", "roadblocks", 0, "polygon"), [[0, 0], [1, 1]], "map.roadblocks.0.polygon"),
        (("agents",), [{"token": "a"}], "agents.0.type"),
        (("candidates", "keep", "poses"), [[1, 0, 0]] * 7, "end before 4 s"),
        (("candidates", "keep", "poses", 2), [1, 0], "candidates.keep.poses.2"),
        (("candidates", "keep", "dt"), 0, "candidates.keep.dt"),
        (("reference", "v2"), "none", "reference.v2"),
        (("human_future",), [[1, 0, 0]] * 3, "human_future"),
        (("human_future",), [], "human_future: is missing"),
        (("human_reactive_tracks",), None, "human_reactive_tracks: is missing"),
        (("candidates",), {}, "candidates: Dictionary should have at least 1 item"),
        (("ego_history",), [], "ego_history"),
    ],
)
def test_bad_cases_say_what_is_wrong(path, value, message):
    content = copy.deepcopy(CASES["straight_free"]["input"])
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(CaseError, match=message.replace(".", r"\.")):
        parse_case(content, "v2")


def test_what_is_there_twice_is_refused():
    for path in (("agents",), ("map", "lanes")):
        content = copy.deepcopy(CASES["static_objects"]["input"])
        items = content
        for key in path:
            items = items[key]
        items.append(items[0])
        with pytest.raises(CaseError, match="is there 2 times"):
            parse_case(content, "v1")


def test_a_reactive_agent_that_was_never_recorded_is_refused():
    content = copy.deepcopy(CASES["lead_braking"]["input"])
    token = next(iter(content["human_reactive_tracks"]))
    agent = next(agent for agent in content["agents"] if agent["token"] == token)
    agent["states"] = [None] * len(agent["states"])
    with pytest.raises(CaseError, match=f"agents: {token}: is absent in all states"):
        parse_case(content, "v2")
