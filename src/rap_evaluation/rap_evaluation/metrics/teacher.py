"""PDM scores of a planner's proposals over a batch of samples: what a scorer learns to predict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rap_evaluation.metrics.comfort import as_scores, future_comfort_flags
from rap_evaluation.metrics.pdm_measures import measure
from rap_evaluation.metrics.pdm_scene import PdmScene
from rap_evaluation.metrics.pdm_score import Normaliser, multiplier_v1, pdms
from rap_evaluation.metrics.pdm_simulator import resample, simulate
from rap_raster.frames import FloatArray


def proposal_scores(
    scenes: Sequence[PdmScene],
    proposals_m: FloatArray,
    dt_s: float,
    references_m: FloatArray | None = None,
) -> dict[str, FloatArray]:
    """Scores C proposals of each of B samples by NAVSIM v1; see `pdm_score.pdms`.

    Args:
        scenes: B moments; their agents need 51 frames, as v1 looks 0.9 s past the horizon. With
            fewer, the last one holds.
        proposals_m: (B, C, T, 3) x, y, heading in the ego frame at dt_s, 2 dt_s, ...
        dt_s: Time between poses; T dt_s is at least 4 s.
        references_m: (B, 41, 3) plans every 0.1 s in the map frame to compare the progress with,
            usually PDM-Closed's; None compares the proposals of a sample with each other.

    Returns:
        (B, C) of every sub-score of v1, and of `score`.
    """
    rows = [
        _sample_scores(
            scene, proposals_m[b], dt_s, None if references_m is None else references_m[b]
        )
        for b, scene in enumerate(scenes)
    ]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _sample_scores(
    scene: PdmScene, proposals_m: FloatArray, dt_s: float, reference_m: FloatArray | None
) -> dict[str, FloatArray]:
    poses_m = resample(proposals_m, dt_s, scene.initial_state[:3])
    states = simulate(scene.initial_state, poses_m)
    measures = measure(scene, states, "v1")
    normaliser = None if reference_m is None else _normaliser(scene, reference_m)
    return pdms(measures, as_scores(future_comfort_flags(states)), normaliser)


def _normaliser(scene: PdmScene, reference_m: FloatArray) -> Normaliser:
    measures = measure(scene, simulate(scene.initial_state, reference_m[None]), "v1")
    return Normaliser(float(measures.progress_m[0]), float(multiplier_v1(measures)[0]))
