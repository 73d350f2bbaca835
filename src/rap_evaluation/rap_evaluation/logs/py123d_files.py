"""The part of a log in py123d's Arrow layout, written without py123d.

py123d has one ego per log; here it is the first of the recording's, and the files cover its steps.
Its map file is not written: it packs features as msgpack and has no place for what we draw.

Source: py123d 0.7, `api/scene/arrow/modalities/` (files, columns) and `datatypes/` (metadata).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rap_evaluation.logs import log_schema as schema
from rap_evaluation.logs.ego_motion import EgoStates, at_rear_axle
from rap_evaluation.logs.msgpack_values import Value, packed
from rap_evaluation.logs.recording import UNSEEN_LIGHT, Recording
from rap_evaluation.metrics.pdm_simulator import WHEEL_BASE_SHARE
from rap_raster.frames import FloatArray
from rap_raster.scene import LightState, ObjectClass

VERSION = "0.7.0"
DATASET = "rap"
NAMESPACE = uuid.UUID("123D123D-123D-123D-123D-123D123D123D")
"""Namespace of py123d's row ids."""

LABELS = {
    ObjectClass.VEHICLE: 1,
    ObjectClass.TRUCK: 1,
    ObjectClass.BUS: 1,
    ObjectClass.MOTORCYCLE: 3,
    ObjectClass.BICYCLE: 3,
    ObjectClass.PEDESTRIAN: 4,
    ObjectClass.CONE: 7,
    ObjectClass.BARRIER: 9,
    ObjectClass.GENERIC: 10,
}
"""py123d's `DefaultBoxDetectionLabel` of our classes."""

STATUSES = {LightState.GREEN: 0, LightState.YELLOW: 1, LightState.RED: 2, LightState.UNKNOWN: 4}
"""py123d's `TrafficLightStatus` of our states."""

_LABEL_CLASS = "py123d.datatypes.detections.box_detection_label.DefaultBoxDetectionLabel"


def write_py123d_files(path: Path, recording: Recording) -> None:
    """Writes the files into a log folder; nothing is written if nobody is the ego."""
    if not recording.egos:
        return
    tracks = recording.tracks
    row = int(np.flatnonzero(tracks.ids == recording.egos[0])[0])
    steps = slice(int(tracks.first_steps[row]), int(tracks.last_steps[row]) + 1)
    stamps_us = recording.stamps_ns[steps] // 1000
    _write_ego(path, recording, row, stamps_us)
    _write_boxes(path, recording, row, stamps_us)
    _write_traffic_lights(path, recording, steps, stamps_us)
    _write_sync(path, recording, stamps_us)


def _write(path: Path, name: str, columns: Mapping[str, pa.Array], metadata: Value) -> None:
    """Writes one file; columns are named after it, except those of the sync table's modalities."""
    table = pa.table(dict(columns)).replace_schema_metadata({b"metadata": packed(metadata)})
    with pa.OSFile(str(path / name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _write_ego(
    path: Path, recording: Recording, row: int, stamps_us: npt.NDArray[np.int64]
) -> None:
    tracks = recording.tracks
    vehicle = tracks.dimensions(row)
    run = tracks.states[tracks.offsets[row] : tracks.offsets[row + 1]]
    ego = at_rear_axle(stamps_us * 1000, run, vehicle.rear_axle_to_center_m)
    columns = {
        "ego_state_se3.timestamp_us": pa.array(stamps_us),
        "ego_state_se3.imu_se3": _rows(
            np.column_stack([ego.poses[:, :3], _turns(ego.poses[:, 3])])
        ),
        "ego_state_se3.dynamic_state_se3": _rows(_dynamics(ego)),
    }
    upright = [1.0, 0.0, 0.0, 0.0]
    metadata: dict[str, Value] = {
        "vehicle_name": ObjectClass(tracks.classes[row]).name.lower(),
        "width": vehicle.width_m,
        "length": vehicle.length_m,
        "height": vehicle.height_m,
        "wheel_base": vehicle.length_m * WHEEL_BASE_SHARE,
        "center_to_imu_se3": [vehicle.rear_axle_to_center_m, 0.0, 0.5 * vehicle.height_m, *upright],
        "rear_axle_to_imu_se3": [0.0, 0.0, 0.0, *upright],
    }
    _write(path, schema.EGO, columns, metadata)


def _dynamics(ego: EgoStates) -> FloatArray:
    """Returns (n, 9) velocity, acceleration and angular velocity in the ego frame."""
    result = np.zeros((len(ego.stamps_ns), 9))
    result[:, :2] = ego.velocities_mps
    if len(ego.stamps_ns) > 1:
        elapsed_s = (ego.stamps_ns - ego.stamps_ns[0]) * 1e-9
        result[:, 3:5] = np.gradient(ego.velocities_mps, elapsed_s, axis=0)
    result[:, 8] = ego.yaw_rates_radps
    return result


def _write_boxes(
    path: Path, recording: Recording, ego_row: int, stamps_us: npt.NDArray[np.int64]
) -> None:
    tracks = recording.tracks
    steps = np.concatenate(
        [np.arange(a, b + 1) for a, b in zip(tracks.first_steps, tracks.last_steps, strict=True)]
    )
    rows = np.repeat(np.arange(len(tracks)), np.diff(tracks.offsets))
    first, last = tracks.first_steps[ego_row], tracks.last_steps[ego_row]
    chosen = np.flatnonzero((rows != ego_row) & (first <= steps) & (steps <= last))
    chosen = chosen[np.argsort(steps[chosen], kind="stable")]
    counts = np.bincount(steps[chosen] - first, minlength=last - first + 1)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    states, sizes = tracks.states[chosen], tracks.sizes_m[rows[chosen]]
    center = states[:, :3] + np.array([0.0, 0.0, 0.5]) * sizes[:, 2:]
    boxes = np.column_stack([center, _turns(states[:, 3]), sizes])
    velocities = np.column_stack([states[:, 4:6], np.zeros(len(states))])
    labels = np.array([LABELS[ObjectClass(code)] for code in tracks.classes], dtype=np.uint16)
    tokens = pa.array([str(track) for track in tracks.ids[rows[chosen]]], type=pa.string())
    lidar = pa.nulls(len(chosen), pa.int32())
    columns = {
        "timestamp_us": pa.array(stamps_us),
        "bounding_box_se3": pa.ListArray.from_arrays(offsets, _rows(boxes)),
        "track_token": pa.ListArray.from_arrays(offsets, tokens),
        "label": pa.ListArray.from_arrays(offsets, pa.array(labels[rows[chosen]])),
        "velocity_3d": pa.ListArray.from_arrays(offsets, _rows(velocities)),
        "num_lidar_points": pa.ListArray.from_arrays(offsets, lidar),
    }
    named = {f"box_detections_se3.{name}": column for name, column in columns.items()}
    _write(path, schema.BOXES, named, {"box_detection_label_class": _LABEL_CLASS})


def _write_traffic_lights(
    path: Path, recording: Recording, steps: slice, stamps_us: npt.NDArray[np.int64]
) -> None:
    """Lane ids are numbers there: the rows of our lane table. Unseen lights are left out."""
    numbers = {key: number for number, key in enumerate(recording.map.lanes)}
    known = [i for i, key in enumerate(recording.lights.lane_ids) if key in numbers]
    lane = np.array([numbers[recording.lights.lane_ids[i]] for i in known], dtype=np.int32)
    status = np.full(256, STATUSES[LightState.UNKNOWN], dtype=np.uint8)
    for state, code in STATUSES.items():
        status[state] = code
    states = recording.lights.states[steps][:, known]
    seen = states != UNSEEN_LIGHT
    offsets = pa.array(np.concatenate([[0], np.cumsum(seen.sum(axis=1))]).astype(np.int32))
    lanes = pa.array(np.broadcast_to(lane, states.shape)[seen])
    columns = {
        "traffic_light_detections.timestamp_us": pa.array(stamps_us),
        "traffic_light_detections.lane_id": pa.ListArray.from_arrays(offsets, lanes),
        "traffic_light_detections.status": pa.ListArray.from_arrays(
            offsets, pa.array(status[states[seen]])
        ),
    }
    _write(path, schema.TRAFFIC_LIGHTS, columns, {})


def _write_sync(path: Path, recording: Recording, stamps_us: npt.NDArray[np.int64]) -> None:
    split = f"{DATASET}_train"
    ids = [uuid.uuid5(NAMESPACE, f"{split}:{recording.name}:{stamp}").bytes for stamp in stamps_us]
    index = pa.array(np.arange(len(stamps_us), dtype=np.int64))
    columns = {
        "sync.uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array(ids, pa.binary(16))),
        "sync.timestamp_us": pa.array(stamps_us),
        "box_detections_se3": index,
        "ego_state_se3": index,
        "traffic_light_detections": index,
    }
    metadata: dict[str, Value] = {
        "dataset": DATASET,
        "split": split,
        "log_name": recording.name,
        "location": recording.map.name,
        "version": VERSION,
        "map_metadata": None,
    }
    _write(path, schema.SYNC, columns, metadata)


def _rows(table: FloatArray) -> pa.Array:
    flat = np.ascontiguousarray(table, dtype=np.float64)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])


def _turns(yaws_rad: FloatArray) -> FloatArray:
    """Returns (n, 4) quaternions w, x, y, z of turns about z."""
    turns = np.zeros((len(yaws_rad), 4))
    turns[:, 0], turns[:, 3] = np.cos(0.5 * yaws_rad), np.sin(0.5 * yaws_rad)
    return turns
