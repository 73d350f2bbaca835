"""What the finished runs say about an arm, and about one arm against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rap_raster.frames import FloatArray
from rap_training.experiments.figures import FIGURES, FigureName
from rap_training.experiments.intervals import (
    Estimate,
    bootstrapped,
    bootstrapped_difference,
    estimated,
)
from rap_training.experiments.plan import Experiment
from rap_training.experiments.result import RunResult

LEAST_COMPLETED = 0.2
"""Share of the routes. Who gets nowhere does little wrong on the way."""


@dataclass(frozen=True, slots=True)
class ArmResults:
    """The finished runs of an arm.

    Attributes:
        name: Of the arm.
        wanted: How many runs there are to be.
        driven: Whether the closed loop belongs to them.
        results: Of the finished ones, by seed.
    """

    name: str
    wanted: int
    driven: bool
    results: tuple[RunResult, ...]

    @property
    def finished(self) -> bool:
        """Whether all of its trainings are."""
        return len(self.results) >= self.wanted

    @property
    def completes_routes(self) -> bool:
        """Whether its trainings complete enough routes of the closed loop to be judged by it."""
        driven = [result.closed_loop for result in self.results if result.closed_loop]
        completed = sum(loop.completed for loop in driven)
        return completed >= LEAST_COMPLETED * sum(loop.routes for loop in driven) > 0

    def estimate(self, figure: FigureName) -> Estimate | None:
        """Returns the mean of a figure over the trainings.

        None if it was never measured, and if a training that was measured has none, such as faults
        by the kilometre of one that did not move: to leave that one out would be to choose.
        """
        measured = [
            result
            for result in self.results
            if result.closed_loop is not None or not FIGURES[figure].closed_loop
        ]
        values = [FIGURES[figure].value(result) for result in measured]
        known = [value for value in values if value is not None]
        return estimated(known) if known and len(known) == len(values) else None

    def spread(self, figure: FigureName) -> tuple[float, float] | None:
        """Returns the interval if scenes had been drawn anew as well.

        None for a single training, and for figures that are not kept by scene.
        """
        values = self._per_scene(figure, _common_scenes(self.results))
        return None if values is None else bootstrapped(values)

    def lead(self, other: ArmResults, figure: FigureName) -> tuple[float, float] | None:
        """Returns the interval of the lead over another arm in the same scenes, as `spread`."""
        scenes = _common_scenes((*self.results, *other.results))
        own, others = self._per_scene(figure, scenes), other._per_scene(figure, scenes)
        return None if own is None or others is None else bootstrapped_difference(own, others)

    def _per_scene(self, figure: FigureName, scenes: Sequence[str]) -> FloatArray | None:
        """Returns (S, N) values of S trainings in N scenes."""
        runs = [result.pseudo_sim for result in self.results]
        if len(runs) < 2 or not scenes or any(figure not in run.per_scene for run in runs):
            return None
        found = [dict(zip(run.scene_names, run.per_scene[figure], strict=True)) for run in runs]
        return np.array([[values[name] for name in scenes] for values in found])


def arms_of(experiment: Experiment, results: Sequence[RunResult]) -> dict[str, ArmResults]:
    """Returns what there is of each arm of an experiment, by name."""
    arms = {}
    for name, arm in experiment.arms.items():
        key = experiment.recipe(name).key
        found = sorted(
            (result for result in results if result.key == key), key=lambda result: result.seed
        )
        # Another experiment may want more of an arm that both share.
        wanted = max(experiment.seeds_of(name), len(found))
        arms[name] = ArmResults(name, wanted, arm.closed_loop, tuple(found))
    return arms


def _common_scenes(results: Sequence[RunResult]) -> list[str]:
    """Returns the scenes that were scored in all runs, in order."""
    if not results:
        return []
    every = [set(result.pseudo_sim.scene_names) for result in results]
    return sorted(set.intersection(*every))
