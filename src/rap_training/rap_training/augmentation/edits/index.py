"""The edits of a log whose labels were checked, in a file beside it.

Finding an edit that the ego can cope with takes a tenth of a second, using one a fraction of a
millisecond: so edits are found once. The file is an Arrow IPC file that is mapped into memory; it
appears under its name only when it is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rap_evaluation.logs import log_schema
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.log_reader import log_digest
from rap_evaluation.logs.recording import Tracks
from rap_evaluation.pseudo_sim.log_scene import FRAMES
from rap_raster.frames import FloatArray
from rap_training.augmentation.edits.scene_edit import Edit, EditKind, nobody
from rap_training.whole_file import remove_partial, whole_file

Counts = dict[str, dict[str, int]]
"""By kind of edit, and for starts: how often a try had which outcome."""

INDEX = "rap_edits.arrow"
SCHEMA = "rap.edits/1"
LABEL_STEPS = FRAMES - 1
"""Of a label: 5 s."""

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
        count: Edits per log at most, and moments at which they are looked for.
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
    """An index opened for reading; big arrays are views of the mapped file.

    Attributes:
        counts: What came of all that was tried for it.
    """

    def __init__(self, log: DriveLog, table: pa.Table) -> None:
        """Takes a checked table; use `open`."""
        self.counts: Counts = _header(table)["counts"]
        self._log = log
        self._plain: dict[str, npt.NDArray[Any]] = {}
        self._lists: dict[str, tuple[npt.NDArray[np.int32], npt.NDArray[Any]]] = {}
        for field in _COLUMNS:
            column = table.column(field.name).combine_chunks()
            if pa.types.is_list(field.type):
                self._lists[field.name] = np.asarray(column.offsets), _values(column.values)
            else:
                self._plain[field.name] = _values(column)

    @classmethod
    def open(cls, log: DriveLog) -> EditIndex:
        """Opens the index of a log.

        Raises:
            EditIndexError: If there is none, or it was made of another version of the log.
        """
        path = log.path / INDEX
        table = _read(path)
        if table is None or _header(table)["log"] != log_digest(log.path):
            state = "missing or damaged" if table is None else "made of another version of the log"
            folder = log.path.parent
            raise EditIndexError(f"{path}: {state}; run: rap-train edits --logs {folder}")
        return cls(log, table)

    def __len__(self) -> int:
        """Returns the number of edits."""
        return len(self._plain["seat"])

    def place(self, row: int) -> tuple[int, int]:
        """Returns seat and step of an edit."""
        return int(self._plain["seat"][row]), int(self._plain["step"][row])

    def __getitem__(self, row: int) -> CheckedEdit:
        """Returns an edit."""
        plain = self._plain
        edit = Edit(
            kind=EditKind(int(plain["kind"][row])),
            amount=float(plain["amount"][row]),
            track=int(plain["track"][row]),
            motion=self._motion(row),
            lights=self._list("lights", row),
            light_state=int(plain["light_state"][row]),
            light_step=int(plain["light_step"][row]),
        )
        return CheckedEdit(*self.place(row), edit, self._list("label", row))

    def _motion(self, row: int) -> Tracks:
        states = self._list("states", row)
        if not len(states):
            return nobody(self._log)
        plain = {name: column[row : row + 1] for name, column in self._plain.items()}
        return Tracks(
            ids=plain["track"],
            source_ids=plain["source_id"],
            classes=plain["class"],
            sizes_m=plain["size_m"],
            rear_axles_m=plain["rear_axle_m"],
            first_steps=plain["first_step"],
            last_steps=plain["first_step"] + np.int32(len(states) - 1),
            states=states,
            observed=np.ones(len(states), dtype=np.bool_),
        )

    def _list(self, name: str, row: int) -> npt.NDArray[Any]:
        offsets, values = self._lists[name]
        return values[offsets[row] : offsets[row + 1]]


def _values(column: pa.Array) -> npt.NDArray[Any]:
    """Returns numbers as (n,), or lists of k numbers as (n, k); a view."""
    if pa.types.is_fixed_size_list(column.type):
        return np.asarray(column.flatten()).reshape(len(column), column.type.list_size)
    return np.asarray(column)


def known_counts(path: Path, options: EditOptions) -> Counts | None:
    """Returns the counts of a log's index, or None if it has none of these options.

    Args:
        path: Folder of the log.
        options: What the index should hold.
    """
    table = _read(path / INDEX)
    if table is None:
        return None
    header = _header(table)
    is_it = header["log"] == log_digest(path) and header["options"] == asdict(options)
    return header["counts"] if is_it else None


def write_index(
    path: Path, options: EditOptions, found: Iterable[CheckedEdit], counts: Counts
) -> None:
    """Writes the index of a log; until it is complete, a former one stays.

    Args:
        path: Folder of the log.
        options: What was looked for.
        found: The edits.
        counts: What came of all that was tried.
    """
    header = {
        "schema": SCHEMA,
        "log": log_digest(path),
        "options": asdict(options),
        "counts": counts,
    }
    schema = _COLUMNS.with_metadata({log_schema.METADATA_KEY: json.dumps(header).encode()})
    remove_partial(path / INDEX)
    with whole_file(path / INDEX) as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(_columns(list(found)), schema=schema))


def _read(path: Path) -> pa.Table | None:
    """Maps an index, or returns None where there is no usable one."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
        table.validate(full=True)
        header = _header(table)
    except (OSError, ValueError, KeyError, TypeError):  # Arrow's errors are among these.
        return None
    fields = {"schema", "log", "options", "counts"}
    usable = table.schema.equals(_COLUMNS) and set(header) == fields and header["schema"] == SCHEMA
    return table if usable else None


def _header(table: pa.Table) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(table.schema.metadata[log_schema.METADATA_KEY])
    return header


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
