"""Waymo's rater feedback score (RFS), and the displacement error beside it.

People rated up to three trajectories of a moment with 0 to 10. A plan gets the rating of the
trajectory whose trust region it stays in, less the further it is outside.

Source: Waymo Open Dataset, `metrics/python/rater_feedback_utils.py`; lines below are that file's.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from rap_evaluation.metrics.case_file import CaseError, CaseInput, Number, Pair, parse_input
from rap_raster.frames import FloatArray

POINTS = 20
"""Points of a plan: 4 Hz, 0.25 s to 5 s."""

MAX_RATERS = 3
"""Rated trajectories that count; the official code cuts the rest (46-164)."""

JUDGED = np.array([11, 19])
"""Points of a plan that are judged: at 3 s and at 5 s (321-324)."""

BASE_THRESHOLDS_M = np.array([1.0, 1.8])
"""Size of the trust region at 3 s and at 5 s, before speed and direction scale it (23-46)."""

SLOWEST_MPS, FASTEST_MPS = 1.4, 11.0
"""Speeds between which the trust region grows from half to full size (23-46)."""

Line = Annotated[list[Pair], Field(min_length=1)]


class RatingRules(CaseInput):
    """What the official function lets its caller change.

    Attributes:
        minimum_score_outside_trust_region: Least score of a plan outside all trust regions.
        decay_factor: What is left of a rating at twice the size of the trust region.
        lat_lng_threshold_multipliers: Stretch the trust region to the side and along.
    """

    minimum_score_outside_trust_region: Number = 4.0
    decay_factor: Annotated[Number, Field(ge=0.0, le=1.0)] = 0.1
    lat_lng_threshold_multipliers: Pair = (1.0, 4.0)


class RaterInput(CaseInput):
    """Plans and rated trajectories of one moment, in the frame of the rear axle, metres.

    Attributes:
        init_speed: Speed now, m/s.
        prediction: The plan; or
        predictions: several of them, with
        probs: their probabilities, which need not sum to 1.
        rater_trajectories: Best first or not; shorter ones stand still at their end.
        rater_scores: 0 to 10 each; -1 if nobody rated.
        kwargs: The rules, if not the usual ones.
    """

    init_speed: Number
    prediction: Line | None = None
    predictions: Annotated[list[Line], Field(min_length=1)] | None = None
    probs: list[Number] | None = None
    rater_trajectories: Annotated[list[Line], Field(min_length=1)]
    rater_scores: list[Number]
    kwargs: RatingRules = RatingRules()

    @property
    def plans(self) -> list[list[Pair]]:
        """All plans."""
        return [self.prediction] if self.prediction is not None else self.predictions or []

    @property
    def probabilities(self) -> list[float]:
        """The probability of each plan; a single plan is certain."""
        return [1.0] if self.prediction is not None else self.probs or []


def parse_rater_feedback(content: object) -> RaterInput:
    """Validates the input of an `rfs` case.

    Raises:
        CaseError: If a field is missing or wrong, or numbers of points or ratings do not agree.
    """
    case = parse_input(content, RaterInput)
    if (case.prediction is None) == (case.predictions is None):
        raise CaseError("input: expected either prediction or predictions")
    if len(case.probabilities) != len(case.plans):
        raise CaseError(f"input: probs: expected {len(case.plans)} of them")
    for plan in case.plans:
        if len(plan) != POINTS:
            raise CaseError(f"input: prediction: expected {POINTS} points, got {len(plan)}")
    if len(case.rater_scores) != len(case.rater_trajectories):
        raise CaseError(f"input: rater_scores: expected {len(case.rater_trajectories)} of them")
    if min(case.kwargs.lat_lng_threshold_multipliers) <= 0.0:
        raise CaseError("input: kwargs.lat_lng_threshold_multipliers: expected more than 0")
    return case


def score_rater_feedback(case: RaterInput) -> dict[str, object]:
    """Returns the result of an `rfs` case: score, trust region and displacement errors."""
    plans = np.array(case.plans)
    raters = padded_raters(case.rater_trajectories)
    ratings = np.array(case.rater_scores[:MAX_RATERS])
    lateral, longitudinal = case.kwargs.lat_lng_threshold_multipliers
    thresholds = trust_region(case.init_speed) * np.array([[lateral], [longitudinal]])
    excess = relative_errors(plans, raters, thresholds)
    scores = plan_scores(excess, ratings, case.kwargs)
    errors = np.linalg.norm(plans[0] - raters[np.argmax(ratings)], axis=-1)
    return {
        "rfs": np.dot(case.probabilities, scores),
        "inside_trust_region": is_inside(excess).astype(int),
        "lat_thresholds": thresholds[0],
        "lng_thresholds": thresholds[1],
        "ade3": errors[: JUDGED[0] + 1].mean(),
        "ade5": errors[: JUDGED[1] + 1].mean(),
    }


def padded_raters(trajectories: list[list[Pair]]) -> FloatArray:
    """Brings rated trajectories to one shape.

    Returns:
        (R, 20, 2) at most three of them; each is cut, or waits at its last point.

    Source: lines 46-164.
    """
    return np.array(
        [[*line[:POINTS], *[line[-1]] * (POINTS - len(line))] for line in trajectories[:MAX_RATERS]]
    )


def trust_region(speed_mps: float) -> FloatArray:
    """Returns the (2,) size of the trust region at 3 s and 5 s, m: half of it when slow.

    Source: lines 23-46.
    """
    scale = 0.5 + 0.5 * (speed_mps - SLOWEST_MPS) / (FASTEST_MPS - SLOWEST_MPS)
    return BASE_THRESHOLDS_M * min(max(scale, 0.5), 1.0)


def relative_errors(plans: FloatArray, raters: FloatArray, thresholds_m: FloatArray) -> FloatArray:
    """Measures how far plans are from rated trajectories, in sizes of the trust region.

    Errors are taken along and across the direction of the rated trajectory.

    Args:
        plans: (K, 20, 2) metres.
        raters: (R, 20, 2) metres.
        thresholds_m: (2, 2) lateral, then longitudinal, each at 3 s and 5 s.

    Returns:
        (K, R, 2) at 3 s and 5 s; up to 1 is inside.

    Source: lines 303-370.
    """
    along = directions(raters)[:, JUDGED]
    offsets = plans[:, None, JUDGED] - raters[None, :, JUDGED]
    longitudinal = np.abs((offsets * along).sum(axis=-1))
    lateral = np.abs(offsets[..., 1] * along[..., 0] - offsets[..., 0] * along[..., 1])
    return np.asarray(np.maximum(lateral / thresholds_m[0], longitudinal / thresholds_m[1]))


def directions(trajectories: FloatArray) -> FloatArray:
    """Returns the (R, T, 2) direction of the step that leads to each of (R, T, 2) points.

    The first step starts at the ego. A step of no length keeps the direction before it; before
    the first movement that is straight ahead.

    Source: lines 242-300.
    """
    steps = np.diff(trajectories, axis=1, prepend=0.0)
    lengths = np.linalg.norm(steps, axis=-1)
    moving = lengths > 0.0
    units = steps / np.where(moving, lengths, 1.0)[..., None]
    ahead = np.broadcast_to([1.0, 0.0], (len(units), 1, 2))
    units = np.concatenate([ahead, units], axis=1)
    latest = np.maximum.accumulate(np.where(moving, np.arange(1, moving.shape[1] + 1), 0), axis=1)
    return np.asarray(np.take_along_axis(units, latest[..., None], axis=1))


def is_inside(excess: FloatArray) -> npt.NDArray[np.bool_]:
    """Tells which of K plans stay with one of R raters both at 3 s and 5 s; see `plan_scores`."""
    return np.asarray((excess <= 1.0).all(axis=-1).any(axis=-1))


def plan_scores(excess: FloatArray, ratings: FloatArray, rules: RatingRules) -> FloatArray:
    """Turns distances from the raters into scores.

    At each time the best rater counts, which need not be the same at 3 s and 5 s. Only outside
    all trust regions there is a least score, so that leaving the region of a badly rated
    trajectory raises the score: the metric is like that.

    Args:
        excess: (K, R, 2) from `relative_errors`.
        ratings: (R,) 0 to 10.
        rules: Decay and least score.

    Returns:
        (K,) scores.

    Source: lines 371-413.
    """
    decayed = ratings[:, None] * rules.decay_factor ** np.maximum(excess - 1.0, 0.0)
    scores = decayed.max(axis=1).mean(axis=-1)
    floored = np.maximum(scores, rules.minimum_score_outside_trust_region)
    return np.asarray(np.where(is_inside(excess), scores, floored))
