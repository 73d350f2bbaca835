"""The PDM scores of measured plans: NAVSIM v1 (PDMS), and the sub-scores of v2 (EPDMS).

Sources: autonomousvision/navsim, v1 at 3e8291bf, v2 at 0a380a90, `pdm_scorer.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rap_evaluation.metrics.frame_score import (
    COMFORT_WEIGHT,
    EGO_PROGRESS_WEIGHT,
    MULTIPLIERS,
    TTC_WEIGHT,
)
from rap_evaluation.metrics.pdm_measures import Measures
from rap_raster.frames import FloatArray

MIN_PROGRESS_M = 5.0
"""Where nobody gets farther, progress tells nothing."""


@dataclass(frozen=True, slots=True)
class Normaliser:
    """What the progress of a plan is compared with: the reference plan in the same scene.

    Attributes:
        progress_m: Of the reference.
        multiplier: Product of the reference's multiplying sub-scores.
    """

    progress_m: float
    multiplier: float


def multiplier_v1(measures: Measures) -> FloatArray:
    """Returns the (C,) product of v1's multiplying sub-scores: NC * DAC."""
    return measures.no_at_fault_collisions * measures.drivable_area_compliance


def multiplier_v2(measures: Measures) -> FloatArray:
    """Returns the (C,) product of v2's multiplying sub-scores: NC * DAC * DDC * TLC."""
    product = np.ones(len(measures.progress_m))
    for name in MULTIPLIERS:
        product = product * getattr(measures, name)
    return product


def ego_progress_v1(measures: Measures, best_m: FloatArray) -> FloatArray:
    """EP of v1: the share of the best progress, times the plan's multiplier.

    Args:
        measures: Of C plans.
        best_m: (C,) best progress times multiplier among the plan and what it is compared with.
    """
    multiplier = multiplier_v1(measures)
    share = measures.progress_m * multiplier / np.maximum(best_m, MIN_PROGRESS_M)
    return np.where(best_m > MIN_PROGRESS_M, share, np.where(multiplier == 0.0, 0.0, 1.0))


def ego_progress_v2(measures: Measures, best_m: FloatArray) -> FloatArray:
    """EP of v2: the share of the best progress, not multiplied; see `ego_progress_v1`."""
    share = measures.progress_m / np.maximum(best_m, MIN_PROGRESS_M)
    return np.where(best_m > MIN_PROGRESS_M, np.clip(share, 0.0, 1.0), 1.0)


def pdms(
    measures: Measures, comfort: FloatArray, normaliser: Normaliser | None
) -> dict[str, FloatArray]:
    """Returns the sub-scores and scores of v1: NC * DAC * (5 EP + 5 TTC + 2 C) / 12.

    Args:
        measures: Of C plans, v1.
        comfort: (C,) 0 or 1, see `comfort.future_comfort_flags`.
        normaliser: What each plan's progress is compared with; None compares the plans with each
            other.
    """
    multiplier = multiplier_v1(measures)
    progress = ego_progress_v1(measures, _best_m(measures, multiplier, normaliser))
    ttc = measures.time_to_collision_within_bound
    weighted = EGO_PROGRESS_WEIGHT * progress + TTC_WEIGHT * ttc + COMFORT_WEIGHT * comfort
    return {
        "no_at_fault_collisions": measures.no_at_fault_collisions,
        "drivable_area_compliance": measures.drivable_area_compliance,
        "ego_progress": progress,
        "time_to_collision_within_bound": ttc,
        "comfort": comfort,
        "driving_direction_compliance": measures.driving_direction_compliance,
        "score": multiplier * weighted / (EGO_PROGRESS_WEIGHT + TTC_WEIGHT + COMFORT_WEIGHT),
    }


def epdms_sub_scores(
    measures: Measures, history_comfort: FloatArray, normaliser: Normaliser | None
) -> dict[str, FloatArray]:
    """Returns the sub-scores of v2 without extended comfort.

    Args:
        measures: Of C plans, v2.
        history_comfort: (C,) 0 or 1, see `comfort.history_comfort_flags`.
        normaliser: See `pdms`.
    """
    best_m = _best_m(measures, multiplier_v2(measures), normaliser)
    return {
        **{name: getattr(measures, name) for name in MULTIPLIERS},
        "ego_progress": ego_progress_v2(measures, best_m),
        "time_to_collision_within_bound": measures.time_to_collision_within_bound,
        "lane_keeping": measures.lane_keeping,
        "history_comfort": history_comfort,
    }


def forgiven(plans: Mapping[str, FloatArray], human: Mapping[str, float]) -> dict[str, FloatArray]:
    """Human filter: a sub-score in which the human gets 0 becomes 1 for every plan.

    Source: NAVSIM v2, `evaluate/pdm_score.py:165-219`, with 359c7f7 of 2025-09-29: the score is
    made of what comes out.
    """
    return {
        name: np.ones_like(values) if human[name] == 0.0 else values
        for name, values in plans.items()
    }


def _best_m(
    measures: Measures, multiplier: FloatArray, normaliser: Normaliser | None
) -> FloatArray:
    own = measures.progress_m * multiplier
    if normaliser is None:
        return np.full_like(own, own.max(initial=0.0))
    return np.maximum(own, normaliser.progress_m * normaliser.multiplier)
