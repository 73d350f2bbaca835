"""Reads the files of a log as they were written; big arrays are views of the mapped files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rap_evaluation.logs import log_schema as schema
from rap_evaluation.logs.recording import LightTracks, Recording, Tracks
from rap_raster.camera import DISTORTION_MODELS, CameraModel, Distortion
from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import Lane, TrafficLight, VectorMap
from rap_raster.scene import Shapes


class LogError(ValueError):
    """A log that cannot be used; the message names file and field."""


@dataclass(frozen=True, slots=True)
class LogCamera:
    """A calibrated camera of a log; its images stay in their file until they are asked for.

    Attributes:
        model: Calibration; its name is the camera's name.
        stamps_ns: (n,) int64 exposure times, not those of the log's steps.
        rows: (n,) rows of its images in `jpegs`.
        jpegs: The images of all cameras of the log.
    """

    model: CameraModel
    stamps_ns: npt.NDArray[np.int64]
    rows: npt.NDArray[np.intp]
    jpegs: pa.Array

    def jpeg(self, index: int) -> bytes:
        """Returns the bytes of one image, as they were recorded."""
        content: bytes = self.jpegs[int(self.rows[index])].as_py()
        return content


@dataclass(frozen=True, slots=True)
class StoredLog:
    """What the files of a log hold.

    Attributes:
        path: The folder.
        recording: What was recorded, without the images of its cameras.
        routes: Lane ids per seat that has a route.
        commands: (M,) a driving command for every state of every track.
        cameras: Cameras with their images.
    """

    path: Path
    recording: Recording
    routes: dict[int, list[str]]
    commands: npt.NDArray[np.uint8]
    cameras: tuple[LogCamera, ...] = ()


def read_log(path: Path) -> StoredLog:
    """Reads a log folder.

    Raises:
        LogError: If a file is missing, damaged or of another format.
    """
    table = _read(path, schema.TRACKS, check_columns=False)
    header = _header(path, table)
    _check_columns(path / schema.TRACKS, table, schema.TRACKS)
    engaged = _engaged(path, header)
    states = _read(path, schema.STATES)
    tracks = _tracks(path, table, states, header)
    recording = Recording(
        name=header.name,
        map=_vector_map(path, header.map),
        stamps_ns=header.stamps_ns,
        tracks=tracks,
        lights=_lights(path, header.steps),
        provenance=header.provenance,
        license=header.license,
        egos=tuple(header.egos),
        engaged=engaged,
    )
    return StoredLog(path, recording, _routes(path), _numbers(states, "command"), _cameras(path))


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    map: str
    first_stamp_ns: int
    step_ns: int
    steps: int
    egos: list[int]
    license: str
    provenance: dict[str, str]

    @property
    def stamps_ns(self) -> npt.NDArray[np.int64]:
        return self.first_stamp_ns + np.arange(self.steps, dtype=np.int64) * self.step_ns


_HEADER_KINDS = {
    "name": str,
    "map": str,
    "first_stamp_ns": int,
    "step_ns": int,
    "steps": int,
    "egos": list,
    "license": str,
    "provenance": dict,
}


def _header(path: Path, table: pa.Table) -> _Header:
    file = path / schema.TRACKS
    try:
        header = json.loads((table.schema.metadata or {})[schema.METADATA_KEY])
    except (KeyError, ValueError) as error:
        key = schema.METADATA_KEY.decode()
        raise LogError(f"{file}: has no readable '{key}' metadata") from error
    found = header.get("schema") if isinstance(header, dict) else None
    if found != schema.SCHEMA:
        raise LogError(f"{file}: schema: expected {schema.SCHEMA}, got {found}; make the log again")
    for field, kind in _HEADER_KINDS.items():
        if not isinstance(header.get(field), kind):
            message = f"expected {kind.__name__}, got {header.get(field)!r}"
            raise LogError(f"{file}: metadata field '{field}': {message}")
    if header["steps"] < 1 or header["step_ns"] < (header["steps"] > 1):
        message = f"{header['steps']} steps of {header['step_ns']} ns"
        raise LogError(f"{file}: metadata: expected steps of a positive length, got {message}")
    return _Header(**{field: header[field] for field in _HEADER_KINDS})


def _read(path: Path, name: str, *, check_columns: bool = True) -> pa.Table:
    """Maps a file into memory and checks its structure and columns."""
    file = path / name
    try:
        # The map stays alive as long as an array refers to it.
        table = pa.ipc.open_file(pa.memory_map(str(file), "r")).read_all()
        table.validate(full=True)
    except FileNotFoundError as error:
        raise LogError(f"{file}: missing; is {path} a log?") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise LogError(f"{file}: cannot be read: {reason}") from error
    if check_columns:
        _check_columns(file, table, name)
    return table


def _check_columns(file: Path, table: pa.Table, name: str) -> None:
    for field in schema.COLUMNS[name]:
        if field.name not in table.column_names:
            raise LogError(f"{file}: has no column '{field.name}'")
        column = table.column(field.name)
        if column.type != field.type:
            message = f"expected {field.type}, got {column.type}"
            raise LogError(f"{file}: column '{field.name}': {message}")
        if column.null_count and field.name not in schema.NULLABLE.get(name, ()):
            raise LogError(f"{file}: column '{field.name}': has nulls")


def _column(table: pa.Table, name: str) -> pa.Array:
    """Returns a column as one array. Files have one record batch; combining would copy it."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _numbers(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """Returns a number column as (n,), or a column of lists of k numbers as (n, k)."""
    column = _column(table, name)
    if pa.types.is_fixed_size_list(column.type):
        return np.asarray(column.flatten()).reshape(len(column), column.type.list_size)
    return np.asarray(column)


def _tracks(path: Path, table: pa.Table, states: pa.Table, header: _Header) -> Tracks:
    tracks = Tracks(
        ids=_numbers(table, "track_id"),
        source_ids=_numbers(table, "source_id"),
        classes=_numbers(table, "class"),
        sizes_m=_numbers(table, "size_m"),
        rear_axles_m=_numbers(table, "rear_axle_m"),
        first_steps=_numbers(table, "first_step"),
        last_steps=_numbers(table, "last_step"),
        states=_numbers(states, "state"),
        observed=_numbers(states, "observed").view(np.bool_),
    )
    file, first, last = path / schema.TRACKS, tracks.first_steps, tracks.last_steps
    bad = np.flatnonzero((first < 0) | (last < first) | (last >= header.steps))
    if len(bad):
        message = f"track {tracks.ids[bad[0]]}: steps {first[bad[0]]} to {last[bad[0]]}"
        raise LogError(f"{file}: {message} are not within 0 to {header.steps - 1}")
    if len(np.unique(tracks.ids)) < len(tracks):
        raise LogError(f"{file}: track_id: ids are not unique")
    if not set(header.egos) <= set(tracks.ids.tolist()):
        raise LogError(f"{file}: metadata field 'egos': {header.egos} are not all tracks")
    if len(tracks.states) != tracks.offsets[-1]:
        message = f"expected {tracks.offsets[-1]} rows, got {len(tracks.states)}"
        raise LogError(f"{path / schema.STATES}: state: {message}")
    return tracks


def _engaged(path: Path, header: _Header) -> npt.NDArray[np.uint8]:
    engaged = _numbers(_read(path, schema.ENGAGEMENT), "engaged")
    if len(engaged) != header.steps:
        message = f"expected {header.steps} rows, got {len(engaged)}"
        raise LogError(f"{path / schema.ENGAGEMENT}: engaged: {message}")
    return engaged


def _cameras(path: Path) -> tuple[LogCamera, ...]:
    images = _read(path, schema.IMAGES)
    names, jpegs = _column(images, "camera"), _column(images, "jpeg")
    stamps = _numbers(images, "stamp_ns")
    cameras = []
    for model in _camera_models(path):
        rows = np.flatnonzero(pc.equal(names, model.name))
        cameras.append(LogCamera(model, stamps[rows], rows, jpegs))
    return tuple(cameras)


def _camera_models(path: Path) -> list[CameraModel]:
    table = _read(path, schema.CAMERAS)
    models = []
    for row in table.to_pylist():
        lens = row["distortion_model"]
        if lens is not None and lens not in DISTORTION_MODELS:
            file = path / schema.CAMERAS
            raise LogError(f"{file}: distortion_model: '{lens}' of camera '{row['name']}'")
        fx, fy, cx, cy = row["intrinsics"]
        pose = np.array(row["ego_from_camera"]).reshape(4, 4)
        distortion = None if lens is None else Distortion(lens, tuple(row["distortion"]))
        size = row["width"], row["height"]
        models.append(CameraModel(row["name"], *size, fx, fy, cx, cy, pose, distortion))
    return models


def _lights(path: Path, steps: int) -> LightTracks:
    table = _read(path, schema.LIGHTS)
    states = _numbers(_read(path, schema.LIGHT_STATES), "state")
    if len(states) != steps * len(table):
        message = f"expected {steps} steps of {len(table)} lights, got {len(states)} rows"
        raise LogError(f"{path / schema.LIGHT_STATES}: state: {message}")
    return LightTracks(
        lane_ids=tuple(_column(table, "lane_id").to_pylist()),
        centers_m=_numbers(table, "center_m"),
        sizes_m=_numbers(table, "size_m"),
        yaws_rad=_numbers(table, "yaw_rad"),
        states=states.reshape(steps, len(table)),
    )


def _routes(path: Path) -> dict[int, list[str]]:
    table = _read(path, schema.ROUTES)
    tracks, lanes = _column(table, "track_id"), _column(table, "lane_ids")
    return dict(zip(tracks.to_pylist(), lanes.to_pylist(), strict=True))


def _vector_map(path: Path, name: str) -> VectorMap:
    return VectorMap(
        name=name,
        polylines=_shapes(path, schema.POLYLINES),
        polygons=_shapes(path, schema.POLYGONS),
        lanes=_lanes(path),
        traffic_lights=_map_lights(path),
    )


def _ragged(table: pa.Table, name: str) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """Returns offsets and (m, 3) points of a column of polylines."""
    column = _column(table, name)
    points = np.asarray(column.values.flatten()).reshape(-1, 3)
    return np.asarray(column.offsets), points


def _shapes(path: Path, name: str) -> Shapes:
    table = _read(path, name)
    offsets, points = _ragged(table, "points_m")
    return Shapes(np.asarray(_column(table, "kind")), offsets, points)


def _lines(table: pa.Table, name: str) -> list[FloatArray | None]:
    """Returns a column of polylines as views; null becomes None."""
    offsets, points = _ragged(table, name)
    known = np.asarray(_column(table, name).is_valid())
    return [
        points[start:end] if valid else None
        for start, end, valid in zip(offsets[:-1], offsets[1:], known, strict=True)
    ]


def _lanes(path: Path) -> dict[str, Lane]:
    table = _read(path, schema.LANES)
    plain = (
        "id",
        "successors",
        "left_neighbor",
        "right_neighbor",
        "in_junction",
        "speed_limit_mps",
    )
    values = {name: _column(table, name).to_pylist() for name in plain}
    lines = {name: _lines(table, name) for name in ("centerline_m", "left_m", "right_m")}
    lanes = {}
    for row, key in enumerate(values["id"]):
        centerline = lines["centerline_m"][row]
        if centerline is None:
            raise LogError(f"{path / schema.LANES}: centerline_m: lane '{key}' has none")
        lanes[key] = Lane(
            id=key,
            centerline_m=centerline,
            left_m=lines["left_m"][row],
            right_m=lines["right_m"][row],
            successors=tuple(values["successors"][row]),
            left_neighbor=values["left_neighbor"][row],
            right_neighbor=values["right_neighbor"][row],
            in_junction=values["in_junction"][row],
            speed_limit_mps=values["speed_limit_mps"][row],
        )
    return lanes


def _map_lights(path: Path) -> tuple[TrafficLight, ...]:
    table = _read(path, schema.MAP_LIGHTS)
    centers = _numbers(table, "center_m")
    return tuple(
        TrafficLight(key, centers[row], yaw, tuple(lanes))
        for row, (key, yaw, lanes) in enumerate(
            zip(
                _column(table, "id").to_pylist(),
                _column(table, "yaw_rad").to_pylist(),
                _column(table, "lane_ids").to_pylist(),
                strict=True,
            )
        )
    )


def log_digest(path: Path) -> str:
    """Returns what tells a log from any other: a hash of its files, those of images left out."""
    digest = hashlib.sha256()
    for name in sorted(schema.COLUMNS.keys() - {schema.IMAGES}):
        digest.update(hashlib.sha256((path / name).read_bytes()).digest())
    return digest.hexdigest()
