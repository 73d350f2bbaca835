"""What follows from the definitions of the metrics, beside the official cases."""

from __future__ import annotations

import numpy as np
import pytest

from rap_evaluation.metrics.bench2drive import (
    comfort_share,
    open_loop_errors,
    parse_bench2drive,
    score_bench2drive,
)
from rap_evaluation.metrics.case_file import CaseError
from rap_evaluation.metrics.frame_score import SUB_SCORES, frame_scores
from rap_evaluation.metrics.rater_feedback import (
    directions,
    parse_rater_feedback,
    score_rater_feedback,
)
from rap_evaluation.metrics.two_stage import (
    COLUMNS,
    AggregationError,
    ScoredFrames,
    StagedScene,
    one_stage_score,
    proximity_weights,
    two_stage_score,
)

SCORE = COLUMNS.index("score")
STRAIGHT = np.column_stack([2.0 * np.arange(1, 21), np.zeros(20)])


def rfs(plan, raters, ratings, speed=8.0, **rules):
    content = {
        "init_speed": speed,
        "prediction": np.asarray(plan).tolist(),
        "rater_trajectories": np.asarray(raters).tolist(),
        "rater_scores": ratings,
        "kwargs": rules,
    }
    return score_rater_feedback(parse_rater_feedback(content))


def random_raters(seed):
    rng = np.random.default_rng(seed)
    steps = rng.normal([2.0, 0.0], 0.4, size=(4, 20, 2))
    return np.cumsum(steps, axis=1), rng.permutation([9, 6, 4]).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_rfs_knows_no_direction_side_or_order(seed):
    (plan, *raters), ratings = random_raters(seed)
    raters = np.array(raters)
    expected = rfs(plan, raters, ratings)["rfs"]
    cos, sin = np.cos(2.1), np.sin(2.1)
    for matrix in ([[cos, -sin], [sin, cos]], [[1, 0], [0, -1]]):
        moved = rfs(plan @ np.transpose(matrix), raters @ np.transpose(matrix), ratings)["rfs"]
        assert moved == pytest.approx(expected, abs=1e-9)
    assert rfs(plan, raters[::-1], ratings[::-1])["rfs"] == expected
    assert rfs(plan, raters[[0, 1, 2, 0]], [*ratings, ratings[0]])["rfs"] == expected


def test_rfs_falls_tenfold_with_each_size_of_the_trust_region_beyond_its_border():
    """At 11 m/s the region is 1 m wide to the side at 3 s, 1.8 m at 5 s."""
    scores = []
    for size in (0.5, 1.0 - 1e-9, 2.0, 3.0):
        plan = STRAIGHT.copy()
        plan[11, 1], plan[19, 1] = size, 1.8 * size
        result = rfs(plan, [STRAIGHT], [8], 11.0, minimum_score_outside_trust_region=0.0)
        scores.append(result["rfs"])
    assert scores == pytest.approx([8.0, 8.0, 0.8, 0.08])


def test_leaving_the_trust_region_of_a_bad_rating_raises_the_score():
    aside = STRAIGHT + np.array([0.0, 30.0])
    assert rfs(STRAIGHT, [STRAIGHT], [2])["rfs"] == 2.0
    assert rfs(aside, [STRAIGHT], [2])["rfs"] == 4.0


def test_direction_of_a_standing_vehicle_is_the_last_one_or_ahead():
    line = np.array([[[0.0, 0.0], [0.0, 0.0], [0.0, 3.0], [0.0, 3.0], [-1.0, 3.0]]])
    expected = [[1, 0], [1, 0], [0, 1], [0, 1], [-1, 0]]
    np.testing.assert_array_equal(directions(line)[0], expected)


def test_score_without_extended_comfort_is_the_mean_of_the_rest():
    sub_scores = np.ones((3, len(SUB_SCORES)))
    sub_scores[:, SUB_SCORES.index("ego_progress")] = 0.3
    scores = frame_scores(sub_scores, np.array([np.nan, 0.0, 1.0]))
    np.testing.assert_allclose(scores, [10.5 / 14, 10.5 / 16, 12.5 / 16])
    for name in SUB_SCORES[:4]:
        blocked = sub_scores.copy()
        blocked[:, SUB_SCORES.index(name)] = 0.0
        assert not frame_scores(blocked, np.ones(3)).any()


def frames(tokens, times, starts, *, sub_scores=None, logs=None, recorded=None):
    """Returns frames whose plans all stand at the origin."""
    count = len(tokens)
    values = np.ones((count, len(SUB_SCORES))) if sub_scores is None else sub_scores
    return ScoredFrames(
        rows={token: row for row, token in enumerate(tokens)},
        logs=tuple(logs or ["log"] * count),
        recorded=np.array(recorded if recorded is not None else [True] * count),
        times_s=np.array(times, dtype=float),
        endpoints_m=np.zeros((count, 2)),
        starts_m=np.column_stack([starts, np.zeros(count)]).astype(float),
        sub_scores=values,
        states=np.zeros((count, 41, 11)),
    )


TOKENS = ("now", "before", "near", "near before", "far", "far before")
SCENES = [StagedScene("now", "before", (("near", "near before"), ("far", "far before")))]
TIMES = (10.0, 9.5, 14.0, 13.5, 14.0, 13.5)


def two_stages(far_m, progress):
    sub_scores = np.ones((6, len(SUB_SCORES)))
    sub_scores[:, SUB_SCORES.index("ego_progress")] = progress
    starts = [0.0, 0.0, 0.0, 0.0, far_m, far_m]
    return two_stage_score(frames(TOKENS, TIMES, starts, sub_scores=sub_scores), SCENES)


def test_weight_of_a_follow_up_falls_as_a_gauss_curve_of_its_distance():
    score = two_stages(0.5, 1.0)
    ratio = np.exp(-(0.5**2) / 0.2)
    expected = np.array([1.0, ratio]) / (1.0 + ratio)
    np.testing.assert_allclose(score.weights[[2, 4]], expected)
    assert score.effective_samples == pytest.approx(1.0 / np.sum(expected**2))
    assert score.uniform_groups == 0


def test_a_far_follow_up_counts_nothing_and_all_far_ones_the_same():
    """exp(-d^2 / 0.2) falls below 1e-8 at 1.92 m."""
    assert two_stages(5.0, 1.0).effective_samples == pytest.approx(1.0)
    np.testing.assert_array_equal(proximity_weights(np.array([1.95**2, 30.0])), [0.5, 0.5])
    assert proximity_weights(np.array([1.85**2, 30.0]))[0] > 0.99


def test_two_stage_score_is_the_product_of_both_stages():
    progress = [0.6, 0.6, 0.2, 0.2, 1.0, 1.0]
    first, near, far = (11.0 + 5.0 * np.array([0.6, 0.2, 1.0])) / 16.0
    score = two_stages(5.0, progress)
    assert score.combined[SCORE] == pytest.approx(first * near)
    assert score.stage_one[SCORE] == pytest.approx(first)
    assert score.stage_two[SCORE] == pytest.approx(near)
    np.testing.assert_allclose(score.nearest, [first * near, first * (near + far) / 2])


def test_frames_pair_within_a_log_and_among_recorded_ones_only():
    tokens = ("b1", "a2", "a1", "render", "late")
    score = one_stage_score(
        frames(
            tokens,
            (0.2, 0.5, 0.0, 0.25, 1.2),
            np.zeros(5),
            logs=("b", "a", "a", "a", "a"),
            recorded=[True, True, True, False, True],
        )
    )
    assert score.predecessors == {"a2": "a1"}
    np.testing.assert_array_equal(score.extended_comfort, [np.nan, 1.0, *[np.nan] * 3])
    assert score.average[SCORE] == 1.0


def test_frames_without_any_neighbor_are_refused():
    with pytest.raises(AggregationError, match=r"no frame starts up to 0\.55 s after another"):
        one_stage_score(frames(("a", "b"), (0.0, 2.0), (0.0, 0.0)))


def motion(count, acceleration, yaw_rate=0.0):
    """Returns the motion of a vehicle heading along x, by step."""
    return {
        str(step): {
            "acceleration": [acceleration(step), 0.0, 0.0],
            "angular_velocity": [0.0, 0.0, yaw_rate],
            "forward_vector": [1.0, 0.0, 0.0],
            "right_vector": [0.0, 1.0, 0.0],
        }
        for step in range(count)
    }


def share(samples):
    return comfort_share(parse_bench2drive({"kind": "comfort", "metric_info": samples}).metric_info)


def test_comfort_is_the_share_of_full_chunks():
    def brakes_hard_from_20_on(step):
        return 0.0 if step < 20 else -9.0

    assert share(motion(39, brakes_hard_from_20_on)) == 1.0
    assert share(motion(40, brakes_hard_from_20_on)) == 0.5
    assert share(motion(19, lambda _: -9.0)) == 0.0


def test_a_degree_per_second_already_counts_as_a_radian():
    assert share(motion(20, lambda _: 0.0, yaw_rate=0.94)) == 1.0
    assert share(motion(20, lambda _: 0.0, yaw_rate=0.96)) == 0.0


def record(name, status="Completed", composed=100.0, **infractions):
    return {
        "save_name": name,
        "status": status,
        "infractions": infractions,
        "scores": {"score_composed": composed},
    }


def aggregate(*records):
    calm = motion(20, lambda _: 0.0)
    names = [entry["save_name"] for entry in records]
    content = {"records": list(records), "metric_info": dict.fromkeys(names, calm)}
    return score_bench2drive(parse_bench2drive({"kind": "aggregate", **content}))


def slow(*percentages):
    return [f"Average speed is {value}% of the surrounding traffic's one" for value in percentages]


def test_220_perfect_routes_are_100_percent():
    result = aggregate(*(record(f"route {index}", "Perfect") for index in range(220)))
    assert result == {
        "driving_score": 100.0,
        "success_rate": 1.0,
        "efficiency": None,
        "comfort": 1.0,
    }


def test_success_forgives_slow_driving_and_nothing_else():
    result = aggregate(
        record("slow", min_speed_infractions=slow(50)),
        record("outside", outside_route_lanes=["about 1 m"]),
        record("failed", "Failed - Agent got blocked"),
    )
    assert result["success_rate"] == 1 / 220


def test_efficiency_is_a_mean_of_means_without_impossible_values():
    result = aggregate(
        record("a", min_speed_infractions=slow(50, "150.0", 1000.1)),
        record("b", min_speed_infractions=slow(1000)),
        record("silent"),
    )
    assert result["efficiency"] == (100.0 + 1000.0) / 2
    with pytest.raises(CaseError, match="records: 'c' has no usable speed"):
        aggregate(record("c", min_speed_infractions=slow(2000)))


@pytest.mark.parametrize(
    ("completed", "events", "timeout", "message", "status"),
    [
        (100, [], False, "", "Perfect"),
        (100, ["SCENARIO_TIMEOUT"], False, "", "Completed"),
        (99.99, [], False, "", "Failed"),
        (50, [], False, "Agent crashed", "Failed - Agent crashed"),
        (50, [], True, "Agent crashed", "Failed - Agent timed out"),
        (50, ["VEHICLE_BLOCKED"], True, "", "Failed - Agent got blocked"),
        (50, ["VEHICLE_BLOCKED", "ROUTE_DEVIATION"], False, "",
         "Failed - Agent deviated from the route"),
    ],
)  # fmt: skip
def test_status_of_a_route(completed, events, timeout, message, status):
    content = {
        "kind": "route",
        "events": [
            *({"type": name, "message": ""} for name in events),
            {"type": "ROUTE_COMPLETION", "route_completed": completed},
        ],
        "timeout": timeout,
        "failure_message": message,
    }
    result = score_bench2drive(parse_bench2drive(content))
    assert result["status"] == status
    assert result["num_infractions"] == len(events) + timeout


def test_open_loop_means_run_over_2_4_and_6_steps():
    driven = np.zeros((6, 2))
    plan = np.column_stack([np.zeros(6), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    errors = open_loop_errors(plan, driven)
    assert [errors[f"l2_mean_{seconds}s"] for seconds in (1, 2, 3)] == [1.5, 2.5, 3.5]
    np.testing.assert_array_equal(errors["l2_per_step"], plan[:, 1])
