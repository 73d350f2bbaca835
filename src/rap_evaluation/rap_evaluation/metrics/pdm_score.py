"""The PDM scores: NAVSIM v1 (PDMS) and v2 (EPDMS of one frame), from measured plans.

Sources: autonomousvision/navsim, v1 at 3e8291bf, v2 at 0a380a90, `pdm_scorer.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_evaluation.metrics.pdm_measures import Measures
from rap_raster.frames import FloatArray

MIN_PROGRESS_M = 5.0
"""Where nobody gets farther, progress tells nothing."""

EGO_PROGRESS_WEIGHT = 5.0
TTC_WEIGHT = 5.0
COMFORT_WEIGHT = 2.0
LANE_KEEPING_WEIGHT = 2.0
EXTENDED_COMFORT_WEIGHT = 2.0

MULTIPLIERS = (
    "no_at_fault_collisions",
    "drivable_area_compliance",
    "driving_direction_compliance",
    "traffic_light_compliance",
)
"""Sub-scores of v2 that multiply its score."""

WEIGHTS = {
    "ego_progress": EGO_PROGRESS_WEIGHT,
    "time_to_collision_within_bound": TTC_WEIGHT,
    "lane_keeping": LANE_KEEPING_WEIGHT,
    "history_comfort": COMFORT_WEIGHT,
}
"""Sub-scores of v2 that are weighted; `two_frame_extended_comfort` joins them where it is known."""


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
