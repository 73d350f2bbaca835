"""How the sub-scores of one frame make NAVSIM's extended score (EPDMS).

Source: NAVSIM v2.2 `pdm_scorer.py:44-62` and `run_pdm_score.py`.
"""

from __future__ import annotations

import numpy as np

from rap_raster.frames import FloatArray

MULTIPLIERS = (
    "no_at_fault_collisions",
    "drivable_area_compliance",
    "driving_direction_compliance",
    "traffic_light_compliance",
)
"""Sub-scores whose product scales the score."""

EGO_PROGRESS_WEIGHT = 5.0
TTC_WEIGHT = 5.0
COMFORT_WEIGHT = 2.0
LANE_KEEPING_WEIGHT = 2.0

WEIGHTS = {
    "ego_progress": EGO_PROGRESS_WEIGHT,
    "time_to_collision_within_bound": TTC_WEIGHT,
    "lane_keeping": LANE_KEEPING_WEIGHT,
    "history_comfort": COMFORT_WEIGHT,
}
"""Sub-scores that are averaged, with their weights."""

EXTENDED_COMFORT = "two_frame_extended_comfort"

EXTENDED_COMFORT_WEIGHT = 2.0

SUB_SCORES = (*MULTIPLIERS, *WEIGHTS)
"""The columns of a table of sub-scores."""


def frame_scores(sub_scores: FloatArray, extended_comfort: FloatArray) -> FloatArray:
    """Scores N frames: the product of the multipliers times the weighted mean of the rest.

    Args:
        sub_scores: (N, 8) columns `SUB_SCORES`.
        extended_comfort: (N,) 0 or 1; NaN where there is no frame before, which leaves it out of
            the mean.

    Returns:
        (N,) scores, 0 to 1.
    """
    factors = sub_scores[:, : len(MULTIPLIERS)].prod(axis=1)
    values = sub_scores[:, len(MULTIPLIERS) :]
    weights = np.array(list(WEIGHTS.values()))
    known = np.where(np.isnan(extended_comfort), 0.0, EXTENDED_COMFORT_WEIGHT)
    total = values @ weights + known * np.nan_to_num(extended_comfort)
    return np.asarray(factors * total / (weights.sum() + known))
