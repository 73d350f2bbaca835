"""PDM scores of a planner's proposals: what a scorer learns to predict."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rap_evaluation.metrics.comfort import as_scores, future_comfort_flags
from rap_evaluation.metrics.frame_score import (
    COMFORT_WEIGHT,
    EGO_PROGRESS_WEIGHT,
    LANE_KEEPING_WEIGHT,
    MULTIPLIERS,
    TTC_WEIGHT,
)
from rap_evaluation.metrics.pdm_measures import Measures, measure, without_initial_overlaps
from rap_evaluation.metrics.pdm_scene import PdmScene
from rap_evaluation.metrics.pdm_score import ego_progress_v2, multiplier_v2
from rap_evaluation.metrics.pdm_simulator import resample, simulate
from rap_raster.frames import FloatArray


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a scorer learns about C proposals of one sample.

    Attributes:
        scores: (C,) of every name in `LESSON_SCORES`.
        areas: (C, 41, 5) where each driven proposal is every 0.1 s; see `pdm_measures.ego_areas`.
    """

    scores: dict[str, FloatArray]
    areas: npt.NDArray[np.bool_]


LESSON_SCORES = (
    *MULTIPLIERS,
    "ego_progress",
    "time_to_collision_within_bound",
    "lane_keeping",
    "comfort",
    "score",
)


def lesson(scene: PdmScene, proposals_m: FloatArray, dt_s: float) -> Lesson:
    """Drives and scores the proposals of one sample by NAVSIM v2, as far as one plan allows.

    Two sub-scores of v2 need a past that proposals have not: v1's comfort of the plan alone takes
    the place of history comfort, and extended comfort is left out. Progress is compared with the
    best of the proposals, as in the score's own evaluation of a single planner. Who touches the ego
    at the start is left out, as in v2.

    Args:
        scene: The moment.
        proposals_m: (C, T, 3) x, y, heading in the ego frame at dt_s, 2 dt_s, ...
        dt_s: Time between poses; T dt_s is at least 4 s.
    """
    states = simulate(scene.initial_state, resample(proposals_m, dt_s, scene.initial_state[:3]))
    measures = measure(replace(scene, agents=without_initial_overlaps(scene)), states, "v2")
    return Lesson(_lesson_scores(measures, as_scores(future_comfort_flags(states))), measures.areas)


def _lesson_scores(measures: Measures, comfort: FloatArray) -> dict[str, FloatArray]:
    multiplier = multiplier_v2(measures)
    best_m = np.full_like(multiplier, (measures.progress_m * multiplier).max(initial=0.0))
    parts = {
        "ego_progress": (ego_progress_v2(measures, best_m), EGO_PROGRESS_WEIGHT),
        "time_to_collision_within_bound": (measures.time_to_collision_within_bound, TTC_WEIGHT),
        "lane_keeping": (measures.lane_keeping, LANE_KEEPING_WEIGHT),
        "comfort": (comfort, COMFORT_WEIGHT),
    }
    weights = sum(weight for _, weight in parts.values())
    mean = sum(weight * value for value, weight in parts.values()) / weights
    return {
        **{name: getattr(measures, name) for name in MULTIPLIERS},
        **{name: value for name, (value, _) in parts.items()},
        "score": multiplier * mean,
    }
