"""Writes recordings as logs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rap_bringup.drives.recorded_drive import RecordedCamera
from rap_evaluation.logs import log_schema as schema
from rap_evaluation.logs.py123d_files import write_py123d_files
from rap_evaluation.logs.recording import Recording, engagement
from rap_evaluation.logs.seat_routes import routes_and_commands
from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import Lane, VectorMap
from rap_raster.scene import Shapes

_STRINGS = pa.list_(pa.string())


def write_log(path: Path, recording: Recording) -> None:
    """Writes a recording as a log folder; files of an older log there are replaced.

    Args:
        path: Folder, made if missing.
        recording: What to write.
    """
    path.mkdir(parents=True, exist_ok=True)
    for old in path.glob("*.arrow"):
        old.unlink()
    _write_map(path, recording.map)
    _write_lights(path, recording)
    tracks = recording.tracks
    routes, commands = routes_and_commands(recording)
    observed = tracks.observed.view(np.uint8)
    states = [_fixed_lists(tracks.states), pa.array(observed), pa.array(commands)]
    _write(path, schema.STATES, states)
    seats = [pa.array(list(routes), type=pa.int32()), pa.array(list(routes.values()), _STRINGS)]
    _write(path, schema.ROUTES, seats)
    _write(path, schema.ENGAGEMENT, [pa.array(engagement(recording))])
    _write_cameras(path, recording.cameras)
    write_py123d_files(path, recording)
    columns = [
        pa.array(tracks.ids),
        pa.array(tracks.source_ids),
        pa.array(tracks.classes),
        _fixed_lists(tracks.sizes_m),
        pa.array(tracks.rear_axles_m),
        pa.array(tracks.first_steps),
        pa.array(tracks.last_steps),
    ]
    # Last: a folder with this file is a complete log.
    _write(path, schema.TRACKS, columns, {schema.METADATA_KEY: _metadata(recording)})


def _metadata(recording: Recording) -> bytes:
    stamps = recording.stamps_ns
    return json.dumps(
        {
            "schema": schema.SCHEMA,
            "name": recording.name,
            "map": recording.map.name,
            "first_stamp_ns": int(stamps[0]),
            "step_ns": int(stamps[1] - stamps[0]) if len(stamps) > 1 else 0,
            "steps": len(stamps),
            "egos": list(recording.egos),
            "license": recording.license,
            "provenance": dict(recording.provenance),
        }
    ).encode()


def _write(
    path: Path, name: str, columns: Sequence[pa.Array], metadata: dict[bytes, bytes] | None = None
) -> None:
    """Writes one file as a single record batch, which is what makes it one memory block."""
    file_schema = schema.COLUMNS[name].with_metadata(metadata)
    with pa.OSFile(str(path / name), "wb") as sink, pa.ipc.new_file(sink, file_schema) as writer:
        writer.write_batch(pa.record_batch(list(columns), schema=file_schema))


def _fixed_lists(table: FloatArray) -> pa.Array:
    flat = np.ascontiguousarray(table, dtype=np.float64)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])


def _ragged(points_m: FloatArray, offsets: npt.NDArray[np.int32]) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets), _fixed_lists(points_m))


def _lines(lines: Sequence[FloatArray | None]) -> pa.Array:
    """Returns a list column; None becomes null."""
    known = [line if line is not None else np.zeros((0, 3)) for line in lines]
    offsets = np.concatenate([[0], np.cumsum([len(line) for line in known])]).astype(np.int32)
    values = _fixed_lists(np.concatenate(known) if known else np.zeros((0, 3)))
    missing = pa.array([line is None for line in lines], type=pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=missing)


def _write_map(path: Path, vector_map: VectorMap) -> None:
    for name, shapes in (
        (schema.POLYLINES, vector_map.polylines),
        (schema.POLYGONS, vector_map.polygons),
    ):
        _write(path, name, _shape_columns(shapes))
    _write(path, schema.LANES, _lane_columns(list(vector_map.lanes.values())))
    lights = vector_map.traffic_lights
    columns = [
        pa.array([light.id for light in lights], type=pa.string()),
        _fixed_lists(np.array([light.center_m for light in lights]).reshape(-1, 3)),
        pa.array([light.yaw_rad for light in lights], type=pa.float64()),
        pa.array([list(light.lane_ids) for light in lights], type=_STRINGS),
    ]
    _write(path, schema.MAP_LIGHTS, columns)


def _shape_columns(shapes: Shapes) -> list[pa.Array]:
    return [pa.array(shapes.kinds), _ragged(shapes.points_m, shapes.offsets)]


def _lane_columns(lanes: list[Lane]) -> list[pa.Array]:
    return [
        pa.array([lane.id for lane in lanes], type=pa.string()),
        _lines([lane.centerline_m for lane in lanes]),
        _lines([lane.left_m for lane in lanes]),
        _lines([lane.right_m for lane in lanes]),
        pa.array([list(lane.successors) for lane in lanes], type=_STRINGS),
        pa.array([lane.left_neighbor for lane in lanes], type=pa.string()),
        pa.array([lane.right_neighbor for lane in lanes], type=pa.string()),
        pa.array([lane.in_junction for lane in lanes], type=pa.bool_()),
        pa.array([lane.speed_limit_mps for lane in lanes], type=pa.float64()),
    ]


def _write_cameras(path: Path, cameras: Sequence[RecordedCamera]) -> None:
    models = [camera.model for camera in cameras]
    lenses = [model.distortion for model in models]
    intrinsics = np.array([(model.fx, model.fy, model.cx, model.cy) for model in models])
    poses = np.array([model.ego_from_camera for model in models])
    columns = [
        pa.array([model.name for model in models], type=pa.string()),
        pa.array([model.width for model in models], type=pa.int32()),
        pa.array([model.height for model in models], type=pa.int32()),
        _fixed_lists(intrinsics.reshape(-1, 4)),
        _fixed_lists(poses.reshape(-1, 16)),
        pa.array([lens and lens.model for lens in lenses], type=pa.string()),
        pa.array([lens.coeffs if lens else () for lens in lenses], type=pa.list_(pa.float64())),
    ]
    _write(path, schema.CAMERAS, columns)
    images = [(camera.model.name, image) for camera in cameras for image in camera.images]
    columns = [
        pa.array([name for name, _ in images], type=pa.string()),
        pa.array([image.stamp_ns for _, image in images], type=pa.int64()),
        pa.array([image.jpeg for _, image in images], type=pa.large_binary()),
    ]
    _write(path, schema.IMAGES, columns)


def _write_lights(path: Path, recording: Recording) -> None:
    lights = recording.lights
    columns = [
        pa.array(list(lights.lane_ids), type=pa.string()),
        _fixed_lists(lights.centers_m),
        _fixed_lists(lights.sizes_m),
        pa.array(lights.yaws_rad),
    ]
    _write(path, schema.LIGHTS, columns)
    _write(path, schema.LIGHT_STATES, [pa.array(lights.states.ravel())])
