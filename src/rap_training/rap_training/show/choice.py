"""Which samples are shown: as different from each other as a look at some starts allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_raster.frames import FloatArray, to_local, to_parent
from rap_training.augmentation.mixture import Mixture
from rap_training.augmentation.recorded import as_recorded
from rap_training.augmentation.situation import Situation, Source
from rap_training.config import ModelConfig

MAX_STARTS = 400
"""So many starts of a source are tried, then what was found must do."""

POOL = 6
"""So many situations are made for each one shown."""

LEAST_TRAVEL_M = 5.0
"""A sample that moves less within the horizon shows little."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A situation to show beside what was recorded at its moment.

    Attributes:
        situation: The situation.
        recorded: The same moment as it was.
        image_seed: Light and noise of the camera images.
    """

    situation: Situation
    recorded: Situation
    image_seed: int

    @property
    def changed(self) -> bool:
        """True if the situation is not what was recorded."""
        return bool(self.situation.details) or self.situation.ego != self.recorded.ego

    def recorded_path(self) -> FloatArray:
        """Returns the (T + 1, 3) recorded drive from now on, frame of the situation's ego."""
        origin = self.recorded.ego.planar
        driven = to_parent(origin, self.recorded.path_m)
        return to_local(self.situation.ego.planar, np.concatenate([origin[None], driven]))


def choose(mixture: Mixture, model: ModelConfig, count: int, seed: int) -> list[Shown]:
    """Chooses up to `count` samples of each source, the same ones for the same seed."""
    chosen = []
    for source in mixture.sources:
        rng = np.random.default_rng([seed, int(source.kind)])
        for situation in varied(_candidates(source, POOL * count, rng), count):
            recorded = as_recorded(situation.moment, situation.kind, model)
            chosen.append(Shown(situation, recorded, int(rng.integers(2**31))))
    return chosen


def varied(candidates: list[Situation], count: int) -> list[Situation]:
    """Returns `count` candidates, each the one least like those before it."""
    left, chosen = list(range(len(candidates))), list[Situation]()
    while left and len(chosen) < count:
        likeness = [sum(_likeness(candidates[i], other) for other in chosen) for i in left]
        chosen.append(candidates[left.pop(int(np.argmin(likeness)))])
    return chosen


def _candidates(source: Source, count: int, rng: np.random.Generator) -> list[Situation]:
    found = list[Situation]()
    for start in rng.permutation(len(source))[:MAX_STARTS].tolist():
        result = source.situation(start, rng)
        if isinstance(result, Situation) and np.hypot(*result.path_m[-1, :2]) > LEAST_TRAVEL_M:
            found.append(result)
        if len(found) == count:
            break
    return found


def _likeness(one: Situation, other: Situation) -> int:
    """Returns what two situations share; a log weighs most, then the kind of change."""
    same_log = one.moment.log is other.moment.log
    return (
        4 * same_log
        + 3 * (_changed_things(one) == _changed_things(other))
        + 2 * (same_log and one.moment.seat == other.moment.seat)
        + (one.command == other.command)
    )


def _changed_things(situation: Situation) -> set[str]:
    return {value for value in situation.details.values() if isinstance(value, str)}
