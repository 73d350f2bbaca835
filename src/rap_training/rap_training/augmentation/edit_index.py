"""The edits of a log whose labels were checked, in a file beside it.

Finding an edit that the ego can cope with takes a tenth of a second, using one a fraction of a
millisecond: so edits are found once. The file is an Arrow IPC file that is mapped into memory; it
appears under its name only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rap_bringup.console import Report, silent
from rap_evaluation.logs import log_schema
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.recording import Tracks
from rap_evaluation.metrics.pdm_scene import DT_S
from rap_evaluation.moments import Moment
from rap_evaluation.pseudo_sim.log_scene import FRAMES, Way, route_way
from rap_raster.frames import FloatArray
from rap_raster.vehicle import PACIFICA, VehicleDimensions
from rap_training.augmentation.draw_edits import EditDraws, Stage, nobody
from rap_training.augmentation.expert_drive import ExpertDrive
from rap_training.augmentation.scene_edit import Edit, EditKind, edited
from rap_training.augmentation.score_scene import initial_state

INDEX = "rap_edits.arrow"
SCHEMA = "rap.edits/1"
LABEL_STEPS = FRAMES - 1
"""Of a label: 5 s."""

CHANGED_M = 0.5
"""An edit counts if the ego drives at least this far from where it would have been without it."""

_HISTORY_DT_S = 0.5  # The expert's first acceleration is that over half a second.
_STARTS, _KEPT = "starts", "kept"
_NONE, _UNCHANGED, _EXPERT = "nothing plausible", "changes nothing", "expert fails unedited"

_COLUMNS = pa.schema(
    [
        ("seat", pa.int32()),
        ("step", pa.int32()),
        ("kind", pa.uint8()),
        ("amount", pa.float64()),
        ("track", pa.int32()),
        ("source_id", pa.int64()),
        ("class", pa.uint8()),
        ("size_m", pa.list_(pa.float64(), 3)),
        ("rear_axle_m", pa.float64()),
        ("first_step", pa.int32()),
        ("states", pa.list_(pa.list_(pa.float64(), 7))),
        ("lights", pa.list_(pa.int32())),
        ("light_state", pa.uint8()),
        ("light_step", pa.int32()),
        ("label", pa.list_(pa.list_(pa.float64(), 3))),
    ]
)


class EditIndexError(ValueError):
    """An index that is missing or does not belong to its log; the text says what to run."""


@dataclass(frozen=True, slots=True)
class EditOptions:
    """What to look for.

    Attributes:
        count: Edits per log; fewer if it has not as many.
        seed: Of the draws.
    """

    count: int
    seed: int


@dataclass(frozen=True, slots=True)
class CheckedEdit:
    """An edit and how to drive with it.

    Attributes:
        seat: The ego.
        step: When.
        edit: The edit.
        label_m: (51, 3) x, y, yaw of the rear axle every 0.1 s from now on, map frame.
    """

    seat: int
    step: int
    edit: Edit
    label_m: FloatArray


class EditIndex:
    """An index opened for reading; arrays are views of the mapped file."""

    def __init__(self, log: DriveLog, table: pa.Table) -> None:
        """Takes a checked table."""
        self._log = log
        self._columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        self._plain = {
            field.name: np.asarray(self._columns[field.name])
            for field in _COLUMNS
            if not pa.types.is_nested(field.type)
        }
        self.counts: dict[str, dict[str, int]] = _header(table)["counts"]

    @classmethod
    def open(cls, log: DriveLog) -> EditIndex:
        """Opens the index of a log.

        Raises:
            EditIndexError: If there is none, or it was made of another version of the log.
        """
        path = _path(log)
        table = _read(path)
        if table is None or _header(table).get("log") != _digest(path.parent):
            state = "missing or damaged" if table is None else "made of another version of the log"
            raise EditIndexError(f"{path}: {state}; run: rap-train edits --logs {path.parent.parent}")
        return cls(log, table)

    def __len__(self) -> int:
        """Returns the number of edits."""
        return len(self._plain["seat"])

    def place(self, row: int) -> tuple[int, int]:
        """Returns seat and step of an edit."""
        return int(self._plain["seat"][row]), int(self._plain["step"][row])

    def __getitem__(self, row: int) -> CheckedEdit:
        """Returns an edit."""
        plain = {name: column[row] for name, column in self._plain.items()}
        seat, step = self.place(row)
        edit = Edit(
            kind=EditKind(int(plain["kind"])),
            amount=float(plain["amount"]),
            track=int(plain["track"]),
            motion=self._motion(row),
            lights=_list(self._columns["lights"], row),
            light_state=int(plain["light_state"]),
            light_step=int(plain["light_step"]),
        )
        return CheckedEdit(seat, step, edit, _list(self._columns["label"], row))

    def _motion(self, row: int) -> Tracks:
        states = _list(self._columns["states"], row)
        if not len(states):
            return nobody(self._log)
        plain = {name: column[row : row + 1] for name, column in self._plain.items()}
        size_m = np.asarray(self._columns["size_m"].flatten()).reshape(-1, 3)[row : row + 1]
        return Tracks(
            ids=plain["track"],
            source_ids=plain["source_id"],
            classes=plain["class"],
            sizes_m=size_m,
            rear_axles_m=plain["rear_axle_m"],
            first_steps=plain["first_step"],
            last_steps=plain["first_step"] + np.int32(len(states) - 1),
            states=states,
            observed=np.ones(len(states), dtype=np.bool_),
        )


def index_edits(
    path: Path, options: EditOptions, report: Report = silent
) -> dict[str, dict[str, int]]:
    """Finds edits of a log and writes its index; a complete one of the same options is kept.

    Args:
        path: Folder of the log.
        options: What to look for.
        report: Called with the share that is done.

    Returns:
        How often what happened, by kind of edit; see `EditIndex.counts`.

    Raises:
        LogError: If the log cannot be opened.
        EditIndexError: If its steps are not those of the simulator.
    """
    wanted = {"schema": SCHEMA, "log": _digest(path), "options": asdict(options)}
    table = _read(path / INDEX)
    if table is not None and {**wanted, "counts": _header(table)["counts"]} == _header(table):
        return dict(_header(table)["counts"])
    log = DriveLog.open(path)
    if abs(log.dt_s - DT_S) > 1e-6:
        raise EditIndexError(f"{path}: steps of {log.dt_s:g} s, expected {DT_S:g} s")
    search = _Search(log, options)
    found = list(search.found(report))
    _write(path / INDEX, found, {**wanted, "counts": search.counts()})
    return search.counts()


class _Search:
    """The search of one log."""

    def __init__(self, log: DriveLog, options: EditOptions) -> None:
        self._log, self._options = log, options
        self._expert = ExpertDrive(log)
        self._draws = EditDraws(log)
        self._ways: dict[int, Way] = {}
        self._counter: Counter[tuple[str, str]] = Counter()

    def counts(self) -> dict[str, dict[str, int]]:
        """Returns how often each kind had which outcome."""
        counts: dict[str, dict[str, int]] = {}
        for (kind, outcome), count in sorted(self._counter.items()):
            counts.setdefault(kind, {})[outcome] = count
        return counts

    def found(self, report: Report) -> Iterator[CheckedEdit]:
        """Yields edits from starts in drawn order."""
        starts = _starts(self._log)
        order = np.random.default_rng(self._options.seed).permutation(len(starts))
        kept = 0
        for done, start in enumerate(order):
            for checked in self._at(Moment(self._log, *starts[start])):
                if kept < self._options.count:
                    yield checked
                    kept += 1
            report(max(kept / self._options.count, (done + 1) / len(starts)))
            if kept == self._options.count:
                return

    def _at(self, moment: Moment) -> Iterator[CheckedEdit]:
        """Yields what is found at one moment, at most one edit of each kind."""
        way = self._way(moment.seat)
        state = _state(moment)
        drive = self._expert.drive(moment, state, way)
        flaw = self._expert.flaw(moment, drive, way, watched=0)
        self._counter[_STARTS, _EXPERT if flaw else _KEPT] += 1
        if flaw:
            return
        stage = Stage(moment, way, drive)
        for kind in EditKind:
            rng = np.random.default_rng(
                [self._options.seed, moment.seat, moment.step, int(kind)]
            )
            checked, outcome = self._tried(stage, state, self._draws.draw(stage, kind, rng))
            self._counter[kind.name.lower(), outcome] += 1
            if checked is not None:
                yield checked

    def _tried(
        self, stage: Stage, state: FloatArray, edit: Edit | None
    ) -> tuple[CheckedEdit | None, str]:
        """Returns an edit with its label, if it has one, and what came of it."""
        if edit is None:
            return None, _NONE
        recorded = stage.moment
        moment = replace(recorded, log=edited(recorded.log, edit, recorded.step))
        states = self._expert.drive(moment, state, stage.way)
        if np.hypot(*(states - stage.drive)[:, :2].T).max() < CHANGED_M:
            return None, _UNCHANGED
        flaw = self._expert.flaw(moment, states, stage.way, watched=edit.track)
        if flaw is not None:
            return None, flaw.value
        return CheckedEdit(recorded.seat, recorded.step, edit, states[:, :3]), _KEPT

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
    front_m, rear_m = _ends_m(vehicle)
    largest_front_m, largest_rear_m = _ends_m(PACIFICA)
    return (
        front_m <= largest_front_m
        and rear_m <= largest_rear_m
        and vehicle.width_m <= PACIFICA.width_m
    )


def _ends_m(vehicle: VehicleDimensions) -> tuple[float, float]:
    """Returns how far a vehicle reaches ahead of its rear axle, and behind it."""
    half_m = 0.5 * vehicle.length_m
    return half_m + vehicle.rear_axle_to_center_m, half_m - vehicle.rear_axle_to_center_m


def _state(moment: Moment) -> FloatArray:
    ego = moment.ego()
    assert ego is not None  # A moment is a step at which its seat exists.
    return initial_state(ego, moment.history(2, _HISTORY_DT_S), _HISTORY_DT_S)


def _path(log: DriveLog) -> Path:
    if log.path is None:
        raise EditIndexError(f"{log.name}: a log in memory has no index of edits")
    return log.path / INDEX


def _digest(path: Path) -> str:
    """Returns what tells a log's traffic from any other's: the hash of its files."""
    digest = hashlib.sha256()
    for name in (log_schema.TRACKS, log_schema.STATES, log_schema.LIGHT_STATES):
        with (path / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _read(path: Path) -> pa.Table | None:
    """Maps an index, or returns None where there is no usable one."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
    except (OSError, pa.ArrowInvalid):
        return None
    usable = table.schema.equals(_COLUMNS) and _header(table).get("schema") == SCHEMA
    return table if usable else None


def _header(table: pa.Table) -> dict[str, Any]:
    """Returns the header of an index, empty where it cannot be read."""
    try:
        header: dict[str, Any] = json.loads(table.schema.metadata[log_schema.METADATA_KEY])
    except (KeyError, TypeError, ValueError):
        return {}
    return header


def _write(path: Path, found: Sequence[CheckedEdit], header: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    schema = _COLUMNS.with_metadata({log_schema.METADATA_KEY: json.dumps(header).encode()})
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(_columns(found), schema=schema))
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _columns(found: Sequence[CheckedEdit]) -> list[pa.Array]:
    edits = [checked.edit for checked in found]
    motions = [edit.motion for edit in edits]
    sizes_m = np.array([_one(motion.sizes_m, np.zeros(3)) for motion in motions])
    columns = {
        "seat": [checked.seat for checked in found],
        "step": [checked.step for checked in found],
        "kind": [int(edit.kind) for edit in edits],
        "amount": [edit.amount for edit in edits],
        "track": [edit.track for edit in edits],
        "source_id": [int(_one(motion.source_ids, 0)) for motion in motions],
        "class": [int(_one(motion.classes, 0)) for motion in motions],
        "size_m": _vectors(sizes_m, 3),
        "rear_axle_m": [float(_one(motion.rear_axles_m, 0.0)) for motion in motions],
        "first_step": [int(_one(motion.first_steps, 0)) for motion in motions],
        "states": _runs([motion.states for motion in motions], 7),
        "lights": [edit.lights.tolist() for edit in edits],
        "light_state": [edit.light_state for edit in edits],
        "light_step": [edit.light_step for edit in edits],
        "label": _runs([checked.label_m for checked in found], 3),
    }
    return [
        values if isinstance(values, pa.Array) else pa.array(values, type=_COLUMNS.field(name).type)
        for name, values in columns.items()
    ]


def _one(values: npt.NDArray[Any], none: Any) -> Any:  # noqa: ANN401 - numbers of any kind.
    """Returns the value of an edit's only track, or what stands for none."""
    return values[0] if len(values) else none


def _vectors(values: FloatArray, size: int) -> pa.Array:
    flat = np.ascontiguousarray(values, dtype=np.float64).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), size)


def _runs(parts: Sequence[FloatArray], size: int) -> pa.Array:
    offsets = np.cumsum([0, *map(len, parts)]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), _vectors(np.concatenate([*parts, np.zeros((0, size))]), size)
    )


def _list(column: pa.ListArray, row: int) -> npt.NDArray[Any]:
    """Returns the (n,) or (n, k) values of one row of a list column, a view."""
    begin, end = column.offsets[row].as_py(), column.offsets[row + 1].as_py()
    values = column.values
    if pa.types.is_fixed_size_list(values.type):
        size = values.type.list_size
        return np.asarray(values.flatten()).reshape(-1, size)[begin:end]
    return np.asarray(values)[begin:end]
