"""Situations beside the recorded drive, with a drivable way back to it as the label.

What was seen from the recorded place is drawn again from the other one: everybody else is where
they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.seat_routes import SeatRoute
from rap_evaluation.moments import STANDING_M, Moment
from rap_planner.route import Command
from rap_raster.ego_history import EgoState, history_rows
from rap_raster.frames import FloatArray, to_local, wrap_angle
from rap_training.augmentation.free_space import FreeSpace
from rap_training.augmentation.recorded import Starts, seat_starts
from rap_training.augmentation.recovery_preset import Perturbation, load_preset
from rap_training.augmentation.seat_path import SeatPath, seat_path
from rap_training.augmentation.situation import Drop, Situation, SourceKind
from rap_training.augmentation.way_back import WayBack, WayBackSearch
from rap_training.augmentation.way_back_kernels import CURVATURE, YAW, X, Y, Z
from rap_training.config import ModelConfig, RecoveryConfig


class RecoverySource:
    """The recording vehicles pushed off their paths, on their way back."""

    kind = SourceKind.RECOVERY

    def __init__(
        self, logs: Sequence[DriveLog], config: RecoveryConfig, model: ModelConfig
    ) -> None:
        """Lists the starts.

        Raises:
            ConfigError: If the preset cannot be used.
        """
        self.loss_weight = config.loss_weight
        self._preset = load_preset(config.preset)
        self._attempts = config.attempts
        self._model = model
        self._logs = logs
        rows = [
            (number, seat, step)
            for number, log in enumerate(logs)
            for seat in log.egos
            for step in seat_starts(log, seat, model.horizon_s)
        ]
        self._starts = Starts(logs, rows)
        self._spaces: dict[str, FreeSpace] = {}
        self._drives: dict[tuple[str, int], _Drive | None] = {}
