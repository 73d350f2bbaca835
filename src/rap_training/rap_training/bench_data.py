"""How fast samples are made, and whether making them needs ever more memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rap_bringup.console import Report, silent
from rap_evaluation.logs.drive_log import DriveLog
from rap_training.augmentation.mixture import mixture_of, name_of
from rap_training.augmentation.situation import SourceKind
from rap_training.config import TrainingConfig
from rap_training.dataset import DriveDataset

BATCH = 32
PROPOSALS = 64
"""Of each sample that score targets are computed for. Source: RAP section 4."""

_WARM_UP = 256  # Samples: loading kernels, the ground of the maps, first looks at seats.


def bench_data(
    logs: Sequence[DriveLog], config: TrainingConfig, samples: int, report: Report = silent
) -> dict[str, Any]:
    """Measures on one core: rates are per second of CPU time of this process.

    Args:
        logs: What to draw from.
        config: The mix, the size of rasters and their style; camera images are left out.
        samples: How many samples of the mix.
        report: Called with the share that is done.
    """
    data = config.data.model_copy(update={"camera_share": 0.0})
    config = config.model_copy(update={"data": data})
    mixture = mixture_of(logs, data.sources, config.model)
    dataset = DriveDataset(mixture, config, _WARM_UP + samples)
    _draw(dataset, range(_WARM_UP))
    before_mib = _own_memory_mib()
    seconds, counts = _draw(dataset, range(_WARM_UP, len(dataset)), report)
    return {
        "cameras": len(dataset[0]["rasters"]),
        "size": "x".join(map(str, data.image_size)),
        "style": data.style,
        "samples": samples,
        "samples_per_second": round(samples / seconds, 1),
        "mix": {name_of(SourceKind(kind)): n for kind, n in sorted(counts.items())},
        "memory_before_mib": round(before_mib, 1),
        "memory_growth_mib": round(_own_memory_mib() - before_mib, 1),
    }


def _draw(
    dataset: DriveDataset, indices: range, report: Report = silent
) -> tuple[float, Counter[int]]:
    """Draws samples as a loader does; returns CPU seconds and samples per source."""
    counts: Counter[int] = Counter()
    began_s = time.process_time()
    for first in range(indices.start, indices.stop, BATCH):
        batch = range(first, min(first + BATCH, indices.stop))
        counts.update(int(sample["source"]) for sample in dataset.__getitems__(batch))
        report((batch.stop - indices.start) / len(indices))
    return time.process_time() - began_s, counts


def _own_memory_mib() -> float:
    """Returns the memory that is this process's alone: pages of mapped logs are not its own."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    return float(line.split()[1]) / 1024
