"""How sure the mean figure of an arm is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from rap_raster.frames import FloatArray

COVERAGE = 0.9
"""Of all intervals."""

_DRAWS = 4000
_SEED = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean over the trainings of an arm.

    Attributes:
        values: Of each training.
        interval: Its ends; None for a single training, which says nothing about others, and for
            several that are equal, which do not say how much others would differ.
    """

    values: tuple[float, ...]
    interval: tuple[float, float] | None

    @property
    def mean(self) -> float:
        """The mean."""
        return sum(self.values) / len(self.values)


def estimated(values: Sequence[float]) -> Estimate:
    """Returns the mean of at least one value with Student's t-interval.

    It says how much another few trainings would differ on the same scenes.
    """
    if len(set(values)) < 2:
        return Estimate(tuple(values), None)
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = error * float(stdtrit(len(values) - 1, 0.5 + COVERAGE / 2))
    mean = float(np.mean(values))
    return Estimate(tuple(values), (mean - half, mean + half))


def bootstrapped(values: FloatArray) -> tuple[float, float]:
    """Returns the interval of a mean when trainings and scenes are both drawn again.

    Args:
        values: (S, N) of each training in each scene.
    """
    return _interval(_means(values, np.random.default_rng(_SEED), _scene_weights(values.shape[1])))


def bootstrapped_difference(first: FloatArray, second: FloatArray) -> tuple[float, float]:
    """Returns the interval of the difference of two means in the same scenes.

    Both arms meet the same drawn scenes; their trainings are drawn apart.

    Args:
        first: (S, N) of each training of one arm in each scene.
        second: (R, N) of the other arm, which is subtracted.
    """
    rng, scenes = np.random.default_rng(_SEED), _scene_weights(first.shape[1])
    return _interval(_means(first, rng, scenes) - _means(second, rng, scenes))


def _scene_weights(count: int) -> FloatArray:
    """Returns (D, N) shares of each scene in each draw with replacement."""
    rng = np.random.default_rng([_SEED, count])
    return rng.multinomial(count, np.full(count, 1.0 / count), size=_DRAWS) / count


def _means(values: FloatArray, rng: np.random.Generator, scenes: FloatArray) -> FloatArray:
    """Returns (D,) means over drawn trainings and scenes."""
    count = len(values)
    trainings = rng.multinomial(count, np.full(count, 1.0 / count), size=_DRAWS) / count
    means: FloatArray = np.sum((trainings @ values) * scenes, axis=1)
    return means


def _interval(draws: FloatArray) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.5 - COVERAGE / 2, 0.5 + COVERAGE / 2])
    return float(low), float(high)
