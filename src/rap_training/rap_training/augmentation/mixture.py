"""Sources mixed by weight: one draw is a function of its random generator alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_evaluation.logs.drive_log import DriveLog
from rap_training.augmentation.edits.source import EditSource
from rap_training.augmentation.recorded import CrossAgentSource, EgoSource
from rap_training.augmentation.recovery.source import RecoverySource
from rap_training.augmentation.situation import DROPS, Situation, Source, SourceKind
from rap_training.config import ModelConfig, SourcesConfig

MAX_DRAWS = 1000
"""A source that gives no sample in so many draws gives none at all."""


class MixtureError(ValueError):
    """The sources give no samples; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A situation, and what it took to find it.

    Attributes:
        situation: The situation.
        start: Number of its start in its source.
        loss_weight: Of its imitation loss.
        drops: (D,) int64 how many draws were dropped before it, by `DROPS`.
    """

    situation: Situation
    start: int
    loss_weight: float
    drops: npt.NDArray[np.int64]


class Mixture:
    """Some sources and how often each is drawn from."""

    def __init__(self, sources: Sequence[tuple[Source, float]]) -> None:
        """Takes sources with their weights.

        Raises:
            MixtureError: If no weight is positive, or a source with a weight has no starts.
        """
        total = sum(weight for _, weight in sources)
        if not total > 0.0:
            raise MixtureError("sources: no source has a weight above 0")
        for source, _ in sources:
            if len(source) == 0:
                raise MixtureError(
                    f"sources: {name_of(source.kind)}: no start in the logs; "
                    "see `rap-train sources`, or give it weight 0"
                )
        self.sources = [source for source, _ in sources]
        self._shares = [weight / total for _, weight in sources]

    def draw(self, rng: np.random.Generator) -> Draw:
        """Draws a situation.

        Raises:
            MixtureError: If the chosen source gives none.
        """
        source = self.sources[int(rng.choice(len(self.sources), p=self._shares))]
        drops = np.zeros(len(DROPS), dtype=np.int64)
        for _ in range(MAX_DRAWS):
            start = int(rng.integers(len(source)))
            result = source.situation(start, rng)
            if isinstance(result, Situation):
                return Draw(result, start, source.loss_weight, drops)
            drops[DROPS.index(result)] += 1
        raise MixtureError(
            f"sources: {name_of(source.kind)}: nothing in {MAX_DRAWS} draws: {said(drops)}"
        )


def name_of(kind: SourceKind) -> str:
    """Returns the name of a source as configurations have it."""
    return kind.name.lower()


def said(drops: npt.NDArray[np.int64]) -> str:
    """Returns drop counts in words."""
    return ", ".join(
        f"{count} {why.value}" for why, count in zip(DROPS, drops, strict=True) if count
    )


def mixture_of(logs: Sequence[DriveLog], config: SourcesConfig, model: ModelConfig) -> Mixture:
    """Opens the sources that have a weight; each must have starts.

    Raises:
        MixtureError: If they give no samples.
        ConfigError: If the preset of recovery samples cannot be used.
    """
    return Mixture(sources_of(logs, config, model))


def sources_of(
    logs: Sequence[DriveLog], config: SourcesConfig, model: ModelConfig
) -> list[tuple[Source, float]]:
    """Opens the sources that have a weight, and returns them with it.

    Raises:
        ConfigError: If the preset of recovery samples cannot be used.
    """
    wanted: tuple[tuple[float, Callable[[], Source]], ...] = (
        (config.ego.weight, lambda: EgoSource(logs, config.ego, model)),
        (config.cross_agent.weight, lambda: CrossAgentSource(logs, config.cross_agent, model)),
        (config.recovery.weight, lambda: RecoverySource(logs, config.recovery, model)),
        (config.edit.weight, lambda: EditSource(logs, config.edit, model)),
    )
    return [(make(), weight) for weight, make in wanted if weight > 0.0]
