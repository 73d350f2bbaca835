"""Finds edits that the ego can cope with, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.moments import Moment
from rap_evaluation.pseudo_sim.log_scene import Way, route_way
from rap_raster.frames import FloatArray
from rap_raster.vehicle import PACIFICA, VehicleDimensions
from rap_training.augmentation.edits.draws import EditDraws
from rap_training.augmentation.edits.expert_drive import ExpertDrive
from rap_training.augmentation.edits.index import LABEL_STEPS, CheckedEdit, Counts, EditOptions
from rap_training.augmentation.edits.scene_edit import Edit, EditKind, Stage, edited
from rap_training.augmentation.score_scene import initial_state

CHANGED_M = 0.5
"""An edit counts if the ego drives at least this far from where it would have been without it."""

MAX_SHARE = 1 / 3
"""Of one kind among the edits of a log: most road users can be removed, few lights be switched."""

_HISTORY_DT_S = 0.5  # The first acceleration is the mean over so long.
_STARTS, _KEPT = "starts", "kept"
_NO_EXPERT = "expert fails without an edit"
_NONE, _UNCHANGED = "nothing plausible", "changes nothing"


class EditSearch:
    """The search of one log."""

    def __init__(self, log: DriveLog, options: EditOptions) -> None:
        """Prepares the log's map."""
        self._log, self._options = log, options
        self._expert = ExpertDrive(log)
        self._draws = EditDraws(log)
        self._ways: dict[int, Way] = {}
        self._counter: Counter[tuple[str, str]] = Counter()

    @property
    def counts(self) -> Counts:
        """What came of all that was tried so far."""
        counts: Counts = {}
        for (kind, outcome), count in sorted(self._counter.items()):
            counts.setdefault(kind, {})[outcome] = count
        return counts

    def found(self) -> Iterator[CheckedEdit]:
        """Yields edits from as many starts as edits are asked for, and no more than that."""
        starts = _starts(self._log)
        order = np.random.default_rng(self._options.seed).permutation(len(starts))[
            : self._options.count
        ]
        kept = 0
        for start in order:
            for checked in self.at(Moment(self._log, *starts[start])):
                yield checked
                kept += 1
                if kept == self._options.count:
                    return

    def at(self, moment: Moment) -> Iterator[CheckedEdit]:
        """Yields what is found at one moment, at most one edit of each kind."""
        way, state = self._way(moment.seat), _state(moment)
        drive = self._expert.drive(moment, state, way)
        flaw = self._expert.flaw(moment, drive, way, edited=0)
        self._counter[_STARTS, _NO_EXPERT if flaw else _KEPT] += 1
        if flaw:
            return
        stage = Stage(moment, way, drive)
        for kind in EditKind:
            if self._counter[kind.name.lower(), _KEPT] >= MAX_SHARE * self._options.count:
                continue
            rng = np.random.default_rng([self._options.seed, moment.seat, moment.step, kind])
            edit = self._draws.draw(stage, kind, rng)
            label, outcome = (None, _NONE) if edit is None else self.label(stage, edit)
            self._counter[kind.name.lower(), outcome] += 1
            if edit is not None and label is not None:
                yield CheckedEdit(moment.seat, moment.step, edit, label)

    def label(self, stage: Stage, edit: Edit) -> tuple[FloatArray | None, str]:
        """Returns how to drive with an edit, (51, 3) poses or None, and what came of it."""
        moment = replace(stage.moment, log=edited(self._log, edit, stage.moment.step))
        states = self._expert.drive(moment, stage.drive[0], stage.way)
        if np.hypot(*(states - stage.drive)[:, :2].T).max() < CHANGED_M:
            return None, _UNCHANGED
        flaw = self._expert.flaw(moment, states, stage.way, edited=edit.track)
        return (states[:, :3], _KEPT) if flaw is None else (None, flaw.value)

    def _way(self, seat: int) -> Way:
        if seat not in self._ways:
            lane_ids = self._log.route_lanes(seat)
            assert lane_ids is not None  # Starts are those of seats with a route.
            self._ways[seat] = route_way(self._log.map.lanes, lane_ids)
        return self._ways[seat]


def _starts(log: DriveLog) -> list[tuple[int, int]]:
    """Returns seat and step of moments of the egos from which everybody is known for 5 s.

    The planner drives, and the score judges, a car of the size of `PACIFICA`: seats that are larger
    have no starts, nor have those without a route.
    """
    return [
        (seat, step)
        for seat in log.egos
        if log.route_lanes(seat) is not None and _fits(log.dimensions(seat))
        for step in range(log.first_step(seat), log.last_step(seat) - LABEL_STEPS + 1)
    ]


def _fits(vehicle: VehicleDimensions) -> bool:
    """True if a vehicle lies within the car that labels are checked with."""
    return vehicle.width_m <= PACIFICA.width_m and all(
        end <= largest for end, largest in zip(_ends_m(vehicle), _ends_m(PACIFICA), strict=True)
    )


def _ends_m(vehicle: VehicleDimensions) -> tuple[float, float]:
    """Returns how far a vehicle reaches ahead of its rear axle, and behind it."""
    half_m = 0.5 * vehicle.length_m
    return half_m + vehicle.rear_axle_to_center_m, half_m - vehicle.rear_axle_to_center_m


def _state(moment: Moment) -> FloatArray:
    history = moment.history(2, _HISTORY_DT_S)
    return initial_state(moment.ego(), history, _HISTORY_DT_S)
