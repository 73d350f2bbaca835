"""Which samples are shown: as different from each other as a look at some starts allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rap_raster.frames import FloatArray, to_local, to_parent
from rap_training.augmentation.recorded import as_recorded, path_ahead_m
from rap_training.augmentation.situation import Situation, Source
from rap_training.config import ModelConfig

MAX_STARTS = 400
"""So many starts of a source are tried, then what was found must do."""

POOL = 6
"""So many situations are made for each one shown."""

LEAST_TRAVEL_M = 10.0
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


def choose(sources: Sequence[Source], model: ModelConfig, count: int, seed: int) -> list[Shown]:
    """Chooses up to `count` samples of each source, the same ones for the same seed."""
    return [
        shown
        for source in sources
        for shown in varied(candidates(source, model, POOL * count, seed), count)
    ]


def candidates(source: Source, model: ModelConfig, count: int, seed: int) -> list[Shown]:
    """Makes up to `count` samples of a source in which the ego moves."""
    rng = np.random.default_rng([seed, int(source.kind)])
    found = list[Shown]()
    for start in rng.permutation(len(source))[:MAX_STARTS].tolist():
        result = source.situation(start, rng)
        if isinstance(result, Situation) and np.hypot(*result.path_m[-1, :2]) > LEAST_TRAVEL_M:
            moment = source.moment(start)
            recorded = as_recorded(moment, source.kind, path_ahead_m(moment, model), model)
            found.append(Shown(result, recorded, int(rng.integers(2**31))))
        if len(found) == count:
            break
    return found


def varied(samples: list[Shown], count: int) -> list[Shown]:
    """Returns `count` samples, each the one least like those before it."""
    left, chosen = list(range(len(samples))), list[Shown]()
    while left and len(chosen) < count:
        likeness = [sum(_likeness(samples[i], other) for other in chosen) for i in left]
        chosen.append(samples[left.pop(int(np.argmin(likeness)))])
    return chosen


def _likeness(one: Shown, other: Shown) -> int:
    """Returns what two samples share; a log weighs most, then the kind of change."""
    first, second = one.recorded.moment, other.recorded.moment
    same_log = first.log is second.log
    return (
        4 * same_log
        + 3 * (_changed_things(one.situation) == _changed_things(other.situation))
        + 2 * (same_log and first.seat == second.seat)
        + (one.situation.command == other.situation.command)
    )


def _changed_things(situation: Situation) -> set[str]:
    return {value for value in situation.details.values() if isinstance(value, str)}
