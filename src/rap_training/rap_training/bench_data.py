"""How fast samples are made, and whether making them needs ever more memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rap_bringup.console import Report, silent
from rap_evaluation.logs.drive_log import DriveLog
from rap_raster.frames import FloatArray
from rap_raster.rasterizer import render_batch
from rap_raster.styles import load_style
from rap_training.augmentation.edits.index import EditIndexError
from rap_training.augmentation.mixture import Mixture, MixtureError, mixture_of, name_of
from rap_training.augmentation.score_scene import ScoreScenes
from rap_training.augmentation.situation import Situation, SourceKind
from rap_training.config import ModelConfig, SourcesConfig, TrainingConfig
from rap_training.dataset import DriveDataset
from rap_training.teaching import Teacher

BATCH = 32
PROPOSALS = 64
"""Of each sample that score targets are computed for. Source: RAP section 4."""

_WARM_UP = 256  # Samples: loading kernels, the ground of the maps, first looks at seats.
_APART = 500  # Samples of each source by itself.
_SCORED = 200  # Samples whose proposals are scored.


def bench_data(
    logs: Sequence[DriveLog], config: TrainingConfig, samples: int, report: Report = silent
) -> dict[str, Any]:
    """Measures on one core: rates are per second of CPU time of this process.

    Args:
        logs: What to draw from.
        config: The mix, the size of rasters and their style; camera images and
            the classes in cells are left out.
        samples: How many samples of the mix.
        report: Called with the share of the mix that is done.
    """
    cameras = config.data.cameras.model_copy(update={"share": 0.0})
    data = config.data.model_copy(update={"cameras": cameras})
    loss = config.loss.model_copy(update={"cells": 0.0})
    config = config.model_copy(update={"data": data, "loss": loss})
    dataset = DriveDataset(_mixture(logs, config), config, _WARM_UP + samples)
    _draw(dataset, range(_WARM_UP))
    before_mib = _own_memory_mib()
    seconds, counts = _draw(dataset, range(_WARM_UP, len(dataset)), report)
    growth_mib = _own_memory_mib() - before_mib
    return {
        "cameras": len(dataset[0]["rasters"]),
        "size": "x".join(map(str, data.image_size)),
        "style": data.style,
        "samples": samples,
        "samples_per_second": round(samples / seconds, 1),
        "mix": {name_of(SourceKind(kind)): n for kind, n in sorted(counts.items())},
        "memory_before_mib": round(before_mib, 1),
        "memory_growth_mib": round(growth_mib, 1),
        "per_second": {
            "rasters_alone": _raster_rate(dataset, config),
            **{name: _rate(logs, _only(config, name)) for name in SourcesConfig.model_fields},
            "score_targets": _score_rate(dataset, config),
        },
    }


def _mixture(logs: Sequence[DriveLog], config: TrainingConfig) -> Mixture:
    return mixture_of(logs, config.data.sources, config.model)


def _only(config: TrainingConfig, source: str) -> TrainingConfig:
    """Returns a configuration that draws from one source alone."""
    sources = config.data.sources
    changes = {
        name: getattr(sources, name).model_copy(update={"weight": float(name == source)})
        for name in SourcesConfig.model_fields
    }
    data = config.data.model_copy(update={"sources": sources.model_copy(update=changes)})
    return config.model_copy(update={"data": data})


def _rate(logs: Sequence[DriveLog], config: TrainingConfig) -> float | None:
    """Returns samples per second of the sources of a configuration; None if they give none."""
    try:
        dataset = DriveDataset(_mixture(logs, config), config, _WARM_UP + _APART)
        _draw(dataset, range(_WARM_UP))
        seconds, _ = _draw(dataset, range(_WARM_UP, len(dataset)))
    except (MixtureError, EditIndexError):
        return None
    return round(_APART / seconds, 1)


def _raster_rate(dataset: DriveDataset, config: TrainingConfig) -> float:
    """Returns for how many samples per second the rasterizer draws: the bound of all rates."""
    drawn = dataset.drawn(range(_WARM_UP))
    style = load_style(config.data.style)
    geometries = [each.situation.geometry(style) for each in drawn]
    rigs = [each.rig for each in drawn]
    began_s = time.process_time()
    for first in range(0, len(drawn), BATCH):
        render_batch(geometries[first : first + BATCH], rigs[first : first + BATCH])
    return round(len(drawn) / (time.process_time() - began_s), 1)


def _score_rate(dataset: DriveDataset, config: TrainingConfig) -> float | None:
    """Returns samples per second whose proposals get score targets; None without a map."""
    situations = [drawn.situation for drawn in dataset.drawn(range(_SCORED))]
    scenes = ScoreScenes(config.model.history_dt_s)
    teacher = Teacher(config.model.dt_s, config.loss.room_m)
    _scored(scenes, teacher, situations[:1], config.model)
    began_s = time.process_time()
    done = _scored(scenes, teacher, situations, config.model)
    return round(done / (time.process_time() - began_s), 1) if done else None


def _scored(
    scenes: ScoreScenes, teacher: Teacher, situations: Sequence[Situation], model: ModelConfig
) -> int:
    """Scores proposals of situations as a training does; returns of how many."""
    done = 0
    for situation in situations:
        scene = scenes.scene(situation)
        if scene is not None:
            label_m = situation.future_m(model.horizon_steps, model.dt_s)
            teacher.lessons([scene], torch.from_numpy(_proposals_m(label_m))[None])
            done += 1
    return done


def _proposals_m(label_m: FloatArray) -> FloatArray:
    """Returns (PROPOSALS, T, 3) proposals that fan out from a (T, 3) label."""
    aside_m = np.linspace(-3.0, 3.0, PROPOSALS)[:, None] * np.linspace(0.0, 1.0, len(label_m))
    proposals: FloatArray = np.repeat(label_m[None], PROPOSALS, axis=0)
    proposals[..., 1] += aside_m
    return proposals


def _draw(
    dataset: DriveDataset, indices: range, report: Report = silent
) -> tuple[float, Counter[int]]:
    """Draws samples as a loader does; returns CPU seconds and samples per source."""
    counts: Counter[int] = Counter()
    began_s = time.process_time()
    for first in range(indices.start, indices.stop, BATCH):
        batch = range(first, min(first + BATCH, indices.stop))
        counts.update(dataset.batch(batch)["source"].tolist())
        report((batch.stop - indices.start) / len(indices))
    return time.process_time() - began_s, counts


def _own_memory_mib() -> float:
    """Returns the memory that is this process's alone: pages of mapped logs are not its own."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    return float(line.split()[1]) / 1024
