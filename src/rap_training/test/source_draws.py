"""Situations of a source, for the tests that look at what sources make."""

from __future__ import annotations

import numpy as np

from rap_training.augmentation.situation import Situation


def situations(source, count: int, seed: int = 0) -> list[Situation]:
    """Draws starts until so many of them have given a situation."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        result = source.situation(int(rng.integers(len(source))), rng)
        found += [result] if isinstance(result, Situation) else []
    return found
