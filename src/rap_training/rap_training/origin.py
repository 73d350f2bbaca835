"""Where samples come from, as far as a configuration does not say it itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from rap_evaluation import camera_sim
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.log_reader import log_digest
from rap_training.augmentation.edits.index import INDEX as EDITS
from rap_training.augmentation.recovery.preset import load_preset
from rap_training.config import RecoveryConfig, TrainingConfig


def origin_of(logs: Sequence[DriveLog], config: TrainingConfig) -> dict[str, Any]:
    """Returns what samples come from, as JSON: they change when it does.

    Those are logs and presets by their content, and the version of the camera simulator.

    Args:
        logs: That samples are drawn from.
        config: What is drawn; it names its recovery preset only.
    """
    cameras = config.data.cameras
    simulated = cameras.share > 0.0 and cameras.images == "simulated"
    return {
        "camera_simulator": camera_sim.VERSION if simulated else None,
        "recovery_preset": _preset(config.data.sources.recovery),
        "logs": [_log(log, config) for log in logs],
    }


def _preset(recovery: RecoveryConfig) -> dict[str, Any] | None:
    return load_preset(recovery.preset).model_dump(mode="json") if recovery.weight > 0.0 else None


def _log(log: DriveLog, config: TrainingConfig) -> dict[str, str | None]:
    edits = None
    if config.data.sources.edit.weight > 0.0:
        edits = hashlib.sha256((log.path / EDITS).read_bytes()).hexdigest()
    return {
        "name": log.name,
        "map": log.map.name,
        "license": log.license,
        "sha256": log_digest(log.path),
        "edits_sha256": edits,
    }
