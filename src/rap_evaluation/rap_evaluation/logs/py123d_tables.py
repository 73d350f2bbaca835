"""Opening py123d's Arrow files and checking their columns, without py123d."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rap_evaluation.logs.log_reader import LogError
from rap_evaluation.logs.msgpack_values import unpacked
from rap_raster.frames import FloatArray

METADATA_KEY = b"metadata"
"""Schema metadata: msgpack. Source: py123d 0.7, `api/utils/arrow_metadata_utils.py`."""

_QUATERNION_TOLERANCE = 1e-3
_LARGEST = 1e9  # UTM northings are below 1e7 m.
_LATEST_US = 2**62 // 1000  # Year 2116; later stamps do not fit into nanoseconds.
_LONGEST_US = 24 * 3600 * 10**6

Setting = TypeVar("Setting")


@dataclass(frozen=True, slots=True)
class Py123dTable:
    """One file.

    Attributes:
        file: Its path, for errors.
        table: Its rows.
        metadata: What its schema tells.
    """

    file: Path
    table: pa.Table
    metadata: dict[str, Any]

    def column(self, name: str) -> pa.Array:
        """Returns a column without gaps; of modalities, names begin with that of the file."""
        names = [name, f"{self.file.stem}.{name}"]
        found = [column for column in names if column in self.table.column_names]
        if not found:
            raise self.error(f"has no column '{names[1]}'")
        column = self.table.column(found[0]).combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # What an empty table gives.
            column = pa.concat_arrays(column.chunks) if column.chunks else pa.array([], column.type)
        return column

    def stamps_ns(self) -> npt.NDArray[np.int64]:
        """Returns the (n,) stamps of the rows, increasing."""
        column = self.column("timestamp_us")
        if not pa.types.is_int64(column.type) or column.null_count:
            raise self.error(f"timestamp_us: expected int64, got {column.type}")
        stamps_us: npt.NDArray[np.int64] = np.asarray(column)
        steps_us = np.diff(stamps_us)
        if (steps_us <= 0).any():
            row = int(np.argmax(steps_us <= 0)) + 1
            raise self.error(f"timestamp_us: row {row} is not later than the one before")
        if len(stamps_us) and not 0 <= stamps_us[0] <= stamps_us[-1] < _LATEST_US:
            raise self.error(f"timestamp_us: {stamps_us[0]} to {stamps_us[-1]} is no time")
        if len(stamps_us) and stamps_us[-1] - stamps_us[0] > _LONGEST_US:
            raise self.error("timestamp_us: spans more than a day")
        return stamps_us * 1000

    def fixed(self, name: str, width: int) -> FloatArray:
        """Returns a column of lists of `width` numbers as (n, width); NaN where there is none."""
        return self._wide(name, self.column(name), width)

    def ragged(
        self, name: str, width: int | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
        """Returns a column of lists: where each row begins in the (m,) or (m, width) items."""
        column = self.column(name)
        if not pa.types.is_list(column.type) or column.null_count:
            raise self.error(f"{name}: expected a list in every row, got {column.type}")
        items = column.values
        offsets = np.asarray(column.offsets).astype(np.int64)
        return offsets, np.asarray(items) if width is None else self._wide(name, items, width)

    def _wide(self, name: str, column: pa.Array, width: int) -> FloatArray:
        wanted = pa.list_(pa.float64(), width)
        if column.type != wanted:
            raise self.error(f"{name}: expected {wanted}, got {column.type}")
        flat = np.asarray(column.values, dtype=np.float64).reshape(-1, width)
        if (np.abs(flat) > _LARGEST).any():
            raise self.error(f"{name}: expected numbers up to {_LARGEST:g}")
        return np.where(np.asarray(column.is_valid())[:, None], flat, np.nan)

    def setting(self, name: str, kind: type[Setting]) -> Setting:
        """Returns a field of the metadata."""
        value = self.metadata.get(name)
        if not isinstance(value, kind):
            message = f"expected {kind.__name__}, got {ascii(value)[:60]}"
            raise self.error(f"metadata field '{name}': {message}")
        return value

    def numbers(self, name: str, count: int) -> FloatArray:
        """Returns a field of the metadata that holds `count` numbers."""
        value = self.metadata.get(name)
        known = isinstance(value, list) and all(isinstance(x, int | float) for x in value)
        numbers = np.array(value if known else [], dtype=np.float64)
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise self.error(f"metadata field '{name}': expected {count} finite numbers")
        return numbers

    def error(self, message: str) -> LogError:
        """Returns an error that names the file."""
        return LogError(f"{self.file}: {message}")


def open_table(file: Path) -> Py123dTable:
    """Opens a file.

    Raises:
        LogError: If it is missing or damaged.
    """
    try:
        with pa.memory_map(str(file), "r") as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
        names = table.column_names
    except FileNotFoundError as error:
        raise LogError(f"{file}: missing; is {file.parent} a log of py123d?") from error
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise LogError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error
    if len(set(names)) < len(names):
        raise LogError(f"{file}: has two columns of one name")
    packed = (table.schema.metadata or {}).get(METADATA_KEY)
    if packed is None:
        raise LogError(f"{file}: has no '{METADATA_KEY.decode()}' in its schema")
    try:
        metadata = unpacked(packed)
    except ValueError as error:
        raise LogError(f"{file}: metadata: {error}") from error
    if not isinstance(metadata, dict):
        raise LogError(f"{file}: metadata: expected a map, got {type(metadata).__name__}")
    return Py123dTable(file, table, metadata)


def rotations(table: Py123dTable, name: str, quaternions: FloatArray) -> FloatArray:
    """Returns the (n, 3, 3) rotations of (n, 4) quaternions w, x, y, z.

    Raises:
        LogError: If one is not of length 1.
    """
    lengths = np.linalg.norm(quaternions, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) < _QUATERNION_TOLERANCE))
    if len(bad):
        raise table.error(f"{name}: row {bad[0]}: quaternion has length {lengths[bad[0]]:.4g}")
    w, x, y, z = (quaternions / lengths[:, None]).T
    return np.stack([
        np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], axis=-1),
        np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], axis=-1),
        np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], axis=-1),
    ], axis=-2)  # fmt: skip
