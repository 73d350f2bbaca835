"""The teacher of the scorer must give the official scores, sample by sample."""

import gzip
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from shapely import LineString, Point, Polygon, contains_xy, distance, points
from shapely.ops import unary_union

from rap_evaluation.metrics.pdm_kernels import NON_DRIVABLE
from rap_evaluation.metrics.pdm_scene import Area
from rap_evaluation.metrics.pdm_simulator import resample, simulate
from rap_evaluation.metrics.teacher import LESSON_SCORES, lesson
from rap_evaluation.pdm_cases.arrays import parse_case

with gzip.open(Path(__file__).parent / "cases" / "pdm.json.gz") as _file:
    EVERY_CASE = json.load(_file)["cases"]


SAME = (
    "no_at_fault_collisions",
    "drivable_area_compliance",
    "driving_direction_compliance",
    "traffic_light_compliance",
    "time_to_collision_within_bound",
    "lane_keeping",
)
"""Sub-scores of v2 that a lesson takes over as they are."""

DRIVABLE = {Area.ROADBLOCK, Area.INTERSECTION, Area.CARPARK}


def plans_of(case):
    """The names and the 4 s of those plans of a case that have poses every half second."""
    plans = {n: p["poses"] for n, p in case["input"]["candidates"].items() if p["dt"] == 0.5}
    return list(plans), np.array([poses[:8] for poses in plans.values()])


def lesson_of(case):
    """The lesson of these plans, with their names and the case as arrays."""
    names, poses = plans_of(case)
    parsed = parse_case(case["input"], "v2")
    return names, lesson(parsed.scene, poses, 0.5), parsed


def driven(case, parsed):
    """The (C, 41, 11) states in which these plans are driven."""
    state = parsed.scene.initial_state
    return simulate(state, resample(plans_of(case)[1], 0.5, state[:3]))


def box_of(states):
    """The (C, 41, 4, 2) corners of the ego: a Pacifica, 5.176 m by 2.297 m."""
    cos, sin = np.cos(states[..., 2]), np.sin(states[..., 2])
    forward, left = np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)
    middle = states[..., :2] + 1.461 * forward
    corners = [middle + x * 2.588 * forward + y * 1.1485 * left for x in (1, -1) for y in (1, -1)]
    return np.stack(corners, axis=-2)


@pytest.mark.parametrize("case", EVERY_CASE, ids=[case["name"] for case in EVERY_CASE])
def test_a_lesson_gives_the_official_sub_scores_of_v2(case):
    names, taught, _ = lesson_of(case)
    assert len(names) >= 5
    for key in SAME:
        official = [case["expected"]["v2"][name]["non_reactive"][key] for name in names]
        assert taught.scores[key].tolist() == pytest.approx(official, abs=1e-6), key


def test_the_cases_tell_good_and_bad_apart_in_every_sub_score_of_a_lesson():
    values = {key: set() for key in LESSON_SCORES}
    for case in EVERY_CASE:
        _, taught, _ = lesson_of(case)
        for key in LESSON_SCORES:
            values[key] |= set(taught.scores[key].tolist())
    for key, found in values.items():
        assert min(found) < 1.0 == max(found) or key == "score", key
        assert all(0.0 <= value <= 1.0 for value in found), key


def multiplied(rows):
    return rows[SAME[0]] * rows[SAME[1]] * rows[SAME[2]] * rows[SAME[3]]


@pytest.mark.parametrize("case", EVERY_CASE, ids=[case["name"] for case in EVERY_CASE])
def test_progress_of_a_lesson_is_the_share_of_the_best_proposal_without_a_fault(case):
    _, taught, parsed = lesson_of(case)
    # By shapely: how far the middle of the driven box gets along the line.
    middle = box_of(driven(case, parsed)).mean(axis=-2)
    line = LineString(parsed.scene.centerline_m[:, :2])
    way_m = np.array(
        [line.project(Point(row[-1])) - line.project(Point(row[0])) for row in middle]
    ).clip(min=0.0)
    best_m = (way_m * multiplied(taught.scores)).max()
    expected = np.clip(way_m / best_m, 0.0, 1.0) if best_m > 5.0 else np.ones(len(way_m))
    np.testing.assert_allclose(taught.scores["ego_progress"], expected, atol=1e-3)


def test_the_score_of_a_lesson_is_the_weighted_mean_times_what_forbids():
    for case in EVERY_CASE:
        scores = lesson_of(case)[1].scores
        mean = (
            5.0 * scores["ego_progress"]
            + 5.0 * scores["time_to_collision_within_bound"]
            + 2.0 * scores["lane_keeping"]
            + 2.0 * scores["comfort"]
        ) / 14.0
        np.testing.assert_allclose(scores["score"], multiplied(scores) * mean, atol=1e-12)


def test_comfort_of_a_lesson_is_that_of_v1():
    for case in EVERY_CASE:
        names, taught, _ = lesson_of(case)
        official = [case["expected"]["v1"][name]["comfort"] for name in names]
        assert taught.scores["comfort"].tolist() == official


def test_areas_of_a_lesson_say_when_a_corner_of_the_driven_box_is_off_the_road():
    told = []
    for case in (c for c in EVERY_CASE if c["name"] in {"curve_left_r40", "random_00"}):
        _, taught, parsed = lesson_of(case)
        corners = box_of(driven(case, parsed))
        areas = parsed.scene.areas
        rings = [areas.points_m[a:b] for a, b in pairwise(areas.offsets)]
        drivable = unary_union([
            Polygon(ring) for ring, kind in zip(rings, areas.kinds, strict=True) if kind in DRIVABLE
        ])  # fmt: skip
        off = ~contains_xy(drivable, corners[..., 0], corners[..., 1]).all(axis=-1)
        clear = distance(points(corners), drivable.boundary).min(axis=-1) > 1e-3
        assert taught.areas.shape == (*off.shape, 5)
        np.testing.assert_array_equal(taught.areas[..., NON_DRIVABLE][clear], off[clear])
        told.append(off[clear])
    assert 0.01 < np.concatenate([row.ravel() for row in told]).mean() < 0.99
