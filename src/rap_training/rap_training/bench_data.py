"""How fast samples are made, and whether making them needs ever more memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rap_bringup.console import Report, silent
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.metrics.teacher import proposal_scores
from rap_raster.frames import FloatArray
from rap_training.augmentation.mixture import Mixture, mixture_of, name_of
from rap_training.augmentation.score_scene import ScoreScenes
from rap_training.augmentation.situation import Situation, Source, SourceKind
from rap_training.config import TrainingConfig
from rap_training.dataset import DriveDataset

BATCH = 32
PROPOSALS = 64
"""Of each sample that score targets are computed for. Source: RAP section 4."""

_WARM_BATCHES = 8  # Compiling, the ground of the maps, first looks at seats.
_BLOCKS = 10
