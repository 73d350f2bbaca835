"""How many samples logs give: every start of every source is tried, and every drop has a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from rap_bringup.console import Report, silent
from rap_training.augmentation.situation import Drop, Situation, Source, SourceKind


@dataclass(frozen=True, slots=True)
class SourceCount:
    """What one source gives.

    Attributes:
        kind: The source.
        starts: Distinct starts.
        tries: How often a start was tried in all.
        samples: How many tries gave a sample.
        tracks: Distinct vehicles, over all logs, whose seat gave a sample.
        drops: How many tries gave none, by reason.
    """

    kind: SourceKind
    starts: int
    tries: int
    samples: int
    tracks: int
    drops: dict[Drop, int]


def survey(
    sources: Sequence[Source], tries_per_start: int, seed: int, report: Report = silent
) -> list[SourceCount]:
    """Tries every start of every source.

    Args:
        sources: The sources; one without starts is counted as such.
        tries_per_start: How often recovery is tried, which gives another sample each time; of the
            others a start has one sample.
        seed: Of all tries.
        report: Called with the share that is done.
    """
    total = max(1, sum(len(source) for source in sources))
    counts: list[SourceCount] = []
    for source in sources:
        done = sum(count.starts for count in counts)
        tries = tries_per_start if source.kind is SourceKind.RECOVERY else 1
        counts.append(_counted(source, tries, seed, partial(_told, report, total, done)))
    return counts


def _told(report: Report, total: int, before: int, starts: int) -> None:
    report((before + starts) / total)


def _counted(
    source: Source, tries_per_start: int, seed: int, starts_done: Callable[[int], None]
) -> SourceCount:
    tracks: set[tuple[str, int]] = set()
    drops: Counter[Drop] = Counter()
    samples = 0
    for start in range(len(source)):
        rng = np.random.default_rng([seed, source.kind, start])
        for _ in range(tries_per_start):
            result = source.situation(start, rng)
            if isinstance(result, Situation):
                samples += 1
                tracks.add((result.moment.log.name, result.moment.seat))
            else:
                drops[result] += 1
        starts_done(start + 1)
    tries = len(source) * tries_per_start
    return SourceCount(source.kind, len(source), tries, samples, len(tracks), dict(drops))
