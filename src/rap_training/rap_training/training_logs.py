"""Logs to learn from: those of towns that are kept for validation are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rap_evaluation.logs.drive_log import DriveLog, LogError, open_logs
from rap_evaluation.map_split import TRAIN_MAPS, may_train
from rap_training.config import ConfigError, LossConfig


def open_training_logs(folder: Path) -> list[DriveLog]:
    """Opens a folder of logs to learn from.

    Raises:
        LogError: If there is none, one cannot be opened, or one is of a town that is not for
            training; see `map_split`.
    """
    logs = open_logs(folder)
    for log in logs:
        if not may_train(log.map.name):
            raise LogError(
                f"{folder}: {log.name} is of {log.map.name}; of the CARLA towns only "
                f"{', '.join(TRAIN_MAPS)} are for training"
            )
    return logs


def check_scorable(logs: Sequence[DriveLog], loss: LossConfig) -> None:
    """Refuses at once what `rap-train export` would refuse after the training.

    Raises:
        ConfigError: If plans are to be scored and no log has a road to score them on.
    """
    if loss.scored_share and not any(len(log.map.polygons) for log in logs):
        raise ConfigError(
            f"loss.scored_share: is {loss.scored_share:g}, but no log has a drivable area to score "
            "plans on; give `rap-evaluate log` a --map, or set it to 0"
        )
