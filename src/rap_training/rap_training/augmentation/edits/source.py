"""Situations with one thing changed, and what the expert does about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.metrics.pdm_scene import DT_S
from rap_evaluation.moments import Moment
from rap_raster.frames import to_local
from rap_training.augmentation.edits.index import (
    LABEL_STEPS,
    Counts,
    EditIndex,
    EditIndexError,
    EditOptions,
    known_counts,
    write_index,
)
from rap_training.augmentation.edits.scene_edit import BEFORE_STEPS, EditKind, edited
from rap_training.augmentation.edits.search import EditSearch
from rap_training.augmentation.recorded import as_recorded
from rap_training.augmentation.situation import Drop, Situation, SourceKind
from rap_training.config import EditConfig, ModelConfig

_AMOUNTS = {
    EditKind.ADD: "at_mps",
    EditKind.SHIFT_ALONG: "longitudinal_m",
    EditKind.SHIFT_ACROSS: "lateral_m",
    EditKind.SPEED_UP: "by_mps2",
    EditKind.BRAKE: "by_mps2",
}
"""Names of the amounts of edits in the details of a situation, with their units."""


class EditSource:
    """The edits in the indices of logs."""

    kind = SourceKind.EDIT

    def __init__(self, logs: Sequence[DriveLog], config: EditConfig, model: ModelConfig) -> None:
        """Opens the indices.

        Raises:
            EditIndexError: If one is missing or stale, or the model looks farther ahead than the
                labels reach, or farther back than edited logs do.
        """
        _check_reach("ahead, the labels of edits reach", model.horizon_s, LABEL_STEPS * DT_S)
        past_s = (model.history_steps - 1) * model.history_dt_s
        _check_reach("back, edited logs reach", past_s, BEFORE_STEPS * DT_S)
        self.loss_weight = config.loss_weight
        self._model = model
        self._logs, self._indices = logs, [EditIndex.open(log) for log in logs]
        self._ends = np.cumsum([len(index) for index in self._indices])

    def __len__(self) -> int:
        """Returns the number of edits."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def moment(self, start: int) -> Moment:
        """Returns the recorded moment that is edited."""
        number, row = self._place(start)
        return Moment(self._logs[number], *self._indices[number].place(row))

    def situation(self, start: int, rng: np.random.Generator) -> Situation | Drop:
        """Makes the situation of an edit; nothing about it is random any more."""
        number, row = self._place(start)
        log, checked = self._logs[number], self._indices[number][row]
        moment = Moment(edited(log, checked.edit, checked.step), checked.seat, checked.step)
        steps = round(self._model.horizon_s / DT_S)
        path_m = to_local(checked.label_m[0], checked.label_m[1 : steps + 1])
        situation = as_recorded(moment, self.kind, path_m, self._model)
        details: dict[str, float | str] = {"edit": checked.edit.kind.name.lower().replace("_", " ")}
        if checked.edit.kind in _AMOUNTS:
            details[_AMOUNTS[checked.edit.kind]] = checked.edit.amount
        return replace(situation, details=details)

    def _place(self, start: int) -> tuple[int, int]:
        """Returns the number of the log and the row in its index."""
        number = int(np.searchsorted(self._ends, start, side="right"))
        return number, start - (int(self._ends[number - 1]) if number else 0)


def _check_reach(words: str, wanted_s: float, reach_s: float) -> None:
    if wanted_s > reach_s + 1e-6:
        raise EditIndexError(f"model: looks {wanted_s:g} s {words} {reach_s:g} s")


def index_edits(path: Path, options: EditOptions) -> Counts:
    """Finds edits of a log and writes its index; a complete one of the same options is kept.

    Args:
        path: Folder of the log.
        options: What to look for.

    Returns:
        What came of all that was tried.

    Raises:
        LogError: If the log cannot be opened.
        EditIndexError: If its steps are not those of the simulator.
    """
    log = DriveLog.open(path)
    known = known_counts(path, options)
    if known is not None:
        return known
    if abs(log.dt_s - DT_S) > 1e-6:
        raise EditIndexError(f"{path}: expected steps of {DT_S:g} s, got {log.dt_s:g} s")
    search = EditSearch(log, options)
    found = list(search.found())
    write_index(path, options, found, search.counts)
    return search.counts
