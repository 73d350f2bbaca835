"""The PDM scores of the plans of a case: NAVSIM v1, and v2 in different traffic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rap_evaluation.metrics import pdm_score
from rap_evaluation.metrics.comfort import as_scores, future_comfort_flags, history_comfort_flags
from rap_evaluation.metrics.frame_score import SUB_SCORES, frame_scores
from rap_evaluation.metrics.pdm_measures import (
    Measures,
    Version,
    ego_areas,
    measure,
    without_initial_overlaps,
)
from rap_evaluation.metrics.pdm_scene import Agents, PdmScene
from rap_evaluation.metrics.pdm_simulator import simulate
from rap_raster.frames import FloatArray
from rap_raster.vehicle import PACIFICA

Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class PdmCase:
    """A case as arrays.

    Attributes:
        names: (C,) of the candidates.
        scene: Where they are scored, with all recorded agents.
        candidate_poses_m: (C, 41, 3) plans every 0.1 s, map frame.
        reference_poses_m: (41, 3) the plan whose progress theirs is compared with.
        history: (m, 11) states before now, see `comfort.history_samples`; None in v1.
        human_poses_m: (41, 3) what the human drove; None where unknown.
        reactive_agents: By candidate, what reactive traffic did beside it.
        human_reactive_agents: What it did beside the human; None where there is none.
    """

    names: tuple[str, ...]
    scene: PdmScene
    candidate_poses_m: FloatArray
    reference_poses_m: FloatArray
    history: FloatArray | None
    human_poses_m: FloatArray | None
    reactive_agents: dict[str, Agents]
    human_reactive_agents: Agents | None


@dataclass(frozen=True, slots=True)
class _Drives:
    """Simulated plans, the reference last, and what does not depend on the traffic around them."""

    states: FloatArray
    areas: npt.NDArray[np.bool_]
    history_comfort: FloatArray

    def beside_reference(self, row: int) -> _Drives:
        """Returns one drive and the reference."""
        rows = [row, -1]
        return _Drives(self.states[rows], self.areas[rows], self.history_comfort[rows])


def score_v1(case: PdmCase) -> dict[str, Row]:
    """Returns the v1 sub-scores and score of every candidate."""
    states = _simulated(case)
    measures = measure(case.scene, states, "v1")
    scores = pdm_score.pdms(
        measures, as_scores(future_comfort_flags(states)), _reference(measures, "v1")
    )
    return _rows(case.names, scores)


def score_v2(case: PdmCase) -> dict[str, dict[str, Row]]:
    """Returns the v2 sub-scores and score of every candidate by kind of traffic.

    The kinds are `non_reactive`, `reactive` where reactive tracks are known, and both with
    `_human_filter` where the human's drive is known. Scores are without extended comfort.
    """
    states = _simulated(case)
    drives = _Drives(states, ego_areas(case.scene.areas, states), _history_comfort(case, states))
    scene = replace(case.scene, agents=without_initial_overlaps(case.scene))
    results: dict[str, dict[str, Row]] = {name: {} for name in case.names}
    scored = _score_in_traffic("non_reactive", scene, drives, _human(case, scene))
    for traffic, scores in scored.items():
        for name, row in _rows(case.names, scores).items():
            results[name][traffic] = row
    human = _human_among_reactive(case)
    for name, agents in case.reactive_agents.items():
        scene = replace(case.scene, agents=agents)
        pair = drives.beside_reference(case.names.index(name))
        for traffic, scores in _score_in_traffic("reactive", scene, pair, human).items():
            results[name][traffic] = _rows((name,), scores)[name]
    return results


def _simulated(case: PdmCase) -> FloatArray:
    """Returns the (C + 1, 41, 11) drives of the candidates and, last, of the reference."""
    poses = np.concatenate([case.candidate_poses_m, case.reference_poses_m[None]])
    return simulate(case.scene.initial_state, poses)


def _history_comfort(case: PdmCase, states: FloatArray) -> FloatArray:
    assert case.history is not None  # v2 cases have one
    past = np.broadcast_to(case.history, (len(states), *case.history.shape))
    flags = history_comfort_flags(
        np.concatenate([past, states], axis=1),
        rear_axle_to_center_m=PACIFICA.rear_axle_to_center_m,
    )
    return as_scores(flags)


def _human(case: PdmCase, scene: PdmScene) -> Row | None:
    """Returns the sub-scores of the human's drive, scored alone and without a history."""
    if case.human_poses_m is None:
        return None
    states = simulate(scene.initial_state, case.human_poses_m[None])
    measures = measure(scene, states, "v2")
    scores = pdm_score.epdms_sub_scores(measures, np.ones(1), None)
    return {name: float(values[0]) for name, values in scores.items()}


def _human_among_reactive(case: PdmCase) -> Row | None:
    if case.human_reactive_agents is None:
        return None
    return _human(case, replace(case.scene, agents=case.human_reactive_agents))


def _score_in_traffic(
    traffic: str, scene: PdmScene, drives: _Drives, human: Row | None
) -> dict[str, dict[str, FloatArray]]:
    """Scores drives without and, where a human's are known, with the human filter."""
    measures = measure(scene, drives.states, "v2", drives.areas)
    scores = pdm_score.epdms_sub_scores(
        measures, drives.history_comfort, _reference(measures, "v2")
    )
    scored = {traffic: scores}
    if human is not None:
        scored[f"{traffic}_human_filter"] = pdm_score.forgiven(scores, human)
    return {name: {**plans, "score": _epdms(plans)} for name, plans in scored.items()}


def _epdms(sub_scores: Mapping[str, FloatArray]) -> FloatArray:
    table = np.column_stack([sub_scores[name] for name in SUB_SCORES])
    return frame_scores(table, np.full(len(table), np.nan))


def _reference(measures: Measures, version: Version) -> pdm_score.Normaliser:
    multiplier = pdm_score.multiplier_v1 if version == "v1" else pdm_score.multiplier_v2
    return pdm_score.Normaliser(
        progress_m=float(measures.progress_m[-1]), multiplier=float(multiplier(measures)[-1])
    )


def _rows(names: tuple[str, ...], scores: Mapping[str, FloatArray]) -> dict[str, Row]:
    columns = {key: values.tolist() for key, values in scores.items()}
    return {
        name: {key: values[row] for key, values in columns.items()}
        for row, name in enumerate(names)
    }
