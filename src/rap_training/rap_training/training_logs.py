"""Logs to learn from: those of towns that are kept for validation are refused."""

from __future__ import annotations

from pathlib import Path

from rap_evaluation.logs.drive_log import DriveLog, LogError, open_logs
from rap_evaluation.map_split import TRAIN_MAPS, may_train


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
