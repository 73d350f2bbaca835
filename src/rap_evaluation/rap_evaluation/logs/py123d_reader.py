"""Logs of py123d as recordings, read without py123d: it brings them from many data sets.

Read are the ego, the boxes, the states of traffic lights, pinhole cameras whose images are stored
as JPEG in the log, and the map. Poses lose their roll and pitch: our ego stands upright on the
ground below the rear axle. Rates other than 10 Hz are resampled as for all recorded drives.

Source: py123d 0.7, `api/scene/arrow/modalities/` (files, columns) and `datatypes/` (metadata).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rap_bringup.drives.odometry import states_from_poses
from rap_bringup.drives.recorded_drive import (
    CameraImage,
    DriveError,
    RecordedCamera,
    RecordedDrive,
    RecordedObjects,
    checked_boxes,
    checked_camera,
    route_of_drive,
)
from rap_evaluation.logs import log_schema as schema
from rap_evaluation.logs.drive_recording import recording_of
from rap_evaluation.logs.log_reader import LogError
from rap_evaluation.logs.py123d_files import STATUSES
from rap_evaluation.logs.py123d_labels import LABEL_CLASSES
from rap_evaluation.logs.py123d_map import read_py123d_map
from rap_evaluation.logs.py123d_tables import Py123dTable, open_table, rotations
from rap_evaluation.logs.recording import UNSEEN_LIGHT, LightTracks, Recording
from rap_evaluation.traffic.light_tracks import LIGHT_SIZE_M, light_over
from rap_raster.camera import CameraModel, Distortion
from rap_raster.ego_history import MAX_GAP_S, EgoState
from rap_raster.frames import FloatArray, inverse
from rap_raster.maps.vector_map import TrafficLight, VectorMap
from rap_raster.scene import Lights, LightState
from rap_raster.vehicle import VehicleDimensions

LICENSES = {
    "nuplan": "nuPlan, CC BY-NC-SA 4.0 and the nuScenes terms of use: non-commercial",
    "nuscenes": "nuScenes, CC BY-NC-SA 4.0: non-commercial, attribution",
    "av2-sensor": "Argoverse 2, CC BY-NC-SA 4.0: non-commercial, attribution",
    "wod-perception": "Waymo Open Dataset licence agreement for non-commercial use",
    "wod-motion": "Waymo Open Dataset licence agreement for non-commercial use",
    "kitti360": "KITTI-360, CC BY-NC-SA 3.0: non-commercial, attribution",
    "pandaset": "PandaSet, CC BY 4.0 and the terms of its publishers: attribution",
}
"""Terms of the data sets as their publishers state them; of others none is stated."""

MAP_FILE = "map.arrow"
_STATES = {code: state for state, code in STATUSES.items()}
_JPEG = b"\xff\xd8\xff"
_PINHOLE = ("pinhole", "PINHOLE")


def read_py123d(path: Path, map_path: Path | None = None) -> Recording:
    """Reads a log folder of py123d 0.7.

    Args:
        path: Folder with `sync.arrow`, `ego_state_se3.arrow` and other modalities.
        map_path: Map file; None for `map.arrow` in the folder, if there is one.

    Raises:
        LogError: If a file is missing, damaged or holds what no planner could use.
    """
    sync = open_table(path / schema.SYNC)
    file = map_path or path / MAP_FILE
    vector_map = read_py123d_map(file) if map_path or file.exists() else None
    signals = _light_signals(path)
    if vector_map is not None and signals is not None:
        vector_map = replace(vector_map, traffic_lights=_heads(signals, vector_map))
    try:
        recording = recording_of(_drive(path, sync, vector_map))
    except DriveError as error:
        raise LogError(f"{path}: {error}") from error
    if signals is not None:
        recording = replace(recording, lights=_light_tracks(signals, recording))
    fields = ("dataset", "split", "location", "version")
    known = {key: str(sync.metadata[key]) for key in fields if sync.metadata.get(key)}
    return replace(recording, provenance={**recording.provenance, "source": "py123d", **known})


def _drive(path: Path, sync: Py123dTable, vector_map: VectorMap | None) -> RecordedDrive:
    ego = open_table(path / schema.EGO)
    ego_in_imu, vehicle = _vehicle(ego)
    states = _ego_states(ego, ego_in_imu)
    driven = np.array([(state.x_m, state.y_m, state.yaw_rad) for state in states])
    route_m, route_source = route_of_drive(vector_map, driven)
    return RecordedDrive(
        name=sync.setting("log_name", str),
        license=LICENSES.get(str(sync.metadata.get("dataset")), ""),
        map=vector_map,
        ego=states,
        objects=_objects(path),
        cameras=_cameras(path, ego_in_imu),
        route_m=route_m,
        route_source=route_source,
        vehicle=vehicle,
    )


def _pose(table: Py123dTable, name: str) -> FloatArray:
    """Returns a pose of the metadata as a (4, 4) transform."""
    numbers = table.numbers(name, 7)
    transform = np.eye(4)
    transform[:3, :3] = rotations(table, name, numbers[None, 3:])[0]
    transform[:3, 3] = numbers[:3]
    return transform


def _vehicle(ego: Py123dTable) -> tuple[FloatArray, VehicleDimensions]:
    """Returns the (4, 4) pose of our ego frame in the IMU's, and the vehicle.

    Our frame is the rear axle's, lowered to the ground: half the height below the box's centre.
    """
    center, axle = (_pose(ego, f"{name}_to_imu_se3") for name in ("center", "rear_axle"))
    sizes = [ego.metadata.get(name) for name in ("length", "width", "height")]
    if not all(isinstance(size, int | float) and 0.0 < size < np.inf for size in sizes):
        raise ego.error(f"metadata: length, width, height: expected > 0, got {ascii(sizes)[:60]}")
    length_m, width_m, height_m = (float(size) for size in sizes if size is not None)
    to_center = axle[:3, :3].T @ (center[:3, 3] - axle[:3, 3])
    ground = np.eye(4)
    ground[2, 3] = to_center[2] - 0.5 * height_m
    return axle @ ground, VehicleDimensions(length_m, width_m, height_m, float(to_center[0]))


def _ego_states(ego: Py123dTable, ego_in_imu: FloatArray) -> tuple[EgoState, ...]:
    """Returns the motion of the rear axle; where the log has no velocities, that of its poses."""
    stamps_ns, imu = ego.stamps_ns(), ego.fixed("imu_se3", 7)
    if not np.isfinite(imu).all():
        raise ego.error("imu_se3: expected finite numbers")
    map_from_imu = rotations(ego, "imu_se3", imu[:, 3:])
    map_from_ego = map_from_imu @ ego_in_imu[:3, :3]
    yaw = np.arctan2(map_from_ego[:, 1, 0], map_from_ego[:, 0, 0])
    place = imu[:, :3] + map_from_imu @ ego_in_imu[:3, 3]
    poses = np.column_stack([place, yaw])
    motion = ego.fixed("dynamic_state_se3", 9)[:, [0, 1, 2, 6, 7, 8]]
    if not np.isfinite(motion).all():
        return states_from_poses(stamps_ns, poses)
    velocity = motion[:, :3] + np.cross(motion[:, 3:], ego_in_imu[:3, 3])
    x, y, _ = np.einsum("nij,nj->in", map_from_imu, velocity)
    turning = np.einsum("nj,nj->n", map_from_imu[:, 2], motion[:, 3:])
    cos, sin = np.cos(yaw), np.sin(yaw)
    rows = np.column_stack([poses, cos * x + sin * y, cos * y - sin * x, turning])
    return tuple(EgoState(int(t), *map(float, row)) for t, row in zip(stamps_ns, rows, strict=True))


def _objects(path: Path) -> tuple[RecordedObjects, ...]:
    if not (path / schema.BOXES).exists():
        return ()
    table = open_table(path / schema.BOXES)
    stamps_ns = table.stamps_ns()
    offsets, boxes = table.ragged("bounding_box_se3", 10)
    columns = [table.ragged("velocity_3d", 3), table.ragged("label"), table.ragged("track_token")]
    if any(not np.array_equal(offsets, other) for other, _ in columns):
        raise table.error("its columns differ in the number of boxes")
    velocities, labels, tokens = (items for _, items in columns)
    turns = rotations(table, "bounding_box_se3", boxes[:, 3:7])
    classes = _classes(table, labels)
    yaws = np.arctan2(turns[:, 1, 0], turns[:, 0, 0])
    rows = np.column_stack(
        [_ids(tokens), classes, boxes[:, :3], boxes[:, 7:], yaws, velocities[:, :2]]
    )
    return tuple(
        RecordedObjects(
            int(stamp), checked_boxes(_kept(rows[a:b]), f"{table.file}: stamp {stamp}"),
            Lights.empty(),
        )
        for stamp, a, b in zip(stamps_ns, offsets[:-1], offsets[1:], strict=True)
    )  # fmt: skip


def _kept(rows: FloatArray) -> FloatArray:
    """Leaves out boxes without a class."""
    return rows[rows[:, 1] > 0]


def _classes(table: Py123dTable, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Returns our class codes of the boxes, 0 for those left out."""
    name = table.setting("box_detection_label_class", str).rsplit(".", 1)[-1]
    if name not in LABEL_CLASSES:
        known = ", ".join(LABEL_CLASSES)
        raise table.error(f"label class: expected one of {known}, got {ascii(name)[:60]}")
    codes = np.array([int(code or 0) for code in LABEL_CLASSES[name].values()], dtype=np.float64)
    bad = labels[(labels < 0) | (labels >= len(codes))]
    if len(bad):
        raise table.error(f"label: expected 0 to {len(codes) - 1}, got {bad[0]}")
    return codes[labels.astype(np.int64)]


def _ids(tokens: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
    """Returns ids of track tokens: the numbers they are, or numbers in order of appearance."""
    names = [str(token) for token in tokens]
    distinct = dict.fromkeys(names)
    if all(name.isascii() and name.isdigit() and 0 < int(name) < 2**31 for name in distinct):
        return np.array([int(name) for name in names], dtype=np.int64)
    numbers = {name: number for number, name in enumerate(distinct, start=1)}
    return np.array([numbers[name] for name in names], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _LightSignals:
    """States of lanes' lights over time.

    Attributes:
        stamps_ns: (n,) when all were seen.
        lane_ids: L lanes, sorted.
        states: (n, L) `LightState` codes, `UNSEEN_LIGHT` where a lane was not seen.
    """

    stamps_ns: npt.NDArray[np.int64]
    lane_ids: tuple[str, ...]
    states: npt.NDArray[np.uint8]


def _light_signals(path: Path) -> _LightSignals | None:
    if not (path / schema.TRAFFIC_LIGHTS).exists():
        return None
    table = open_table(path / schema.TRAFFIC_LIGHTS)
    offsets, lanes = table.ragged("lane_id")
    others, statuses = table.ragged("status")
    if not np.array_equal(offsets, others):
        raise table.error("its columns differ in the number of lights")
    numbers = np.unique(lanes)
    states = np.full((len(offsets) - 1, len(numbers)), UNSEEN_LIGHT, dtype=np.uint8)
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    codes = [_STATES.get(int(status), LightState.UNKNOWN) for status in statuses]
    states[row, np.searchsorted(numbers, lanes)] = codes
    return _LightSignals(table.stamps_ns(), tuple(str(int(n)) for n in numbers), states)


def _heads(signals: _LightSignals, vector_map: VectorMap) -> tuple[TrafficLight, ...]:
    """Places a head per lane where simulated lights hang: the log tells only the lane."""
    return tuple(
        TrafficLight(f"light {key}", *light_over(vector_map.lanes[key].centerline_m), (key,))
        for key in signals.lane_ids
        if key in vector_map.lanes
    )


def _light_tracks(signals: _LightSignals, recording: Recording) -> LightTracks:
    """Returns the lights at the steps of a log; a state holds for `MAX_GAP_S` at most."""
    heads = recording.map.traffic_lights
    columns = [signals.lane_ids.index(head.lane_ids[0]) for head in heads]
    newest = np.searchsorted(signals.stamps_ns, recording.stamps_ns, side="right") - 1
    age_ns = recording.stamps_ns - signals.stamps_ns[newest]
    states = signals.states[newest][:, columns]
    states[(newest < 0) | (age_ns > MAX_GAP_S * 1e9)] = UNSEEN_LIGHT
    return LightTracks(
        lane_ids=tuple(head.lane_ids[0] for head in heads),
        centers_m=np.array([head.center_m for head in heads]).reshape(-1, 3),
        sizes_m=np.tile(LIGHT_SIZE_M, (len(heads), 1)),
        yaws_rad=np.array([head.yaw_rad for head in heads], dtype=np.float64),
        states=states,
    )


def _cameras(path: Path, ego_in_imu: FloatArray) -> tuple[RecordedCamera, ...]:
    """Reads pinhole cameras whose images are in the log; paths and videos are not followed."""
    tables = [open_table(file) for file in sorted(path.glob("camera.*.arrow"))]
    return tuple(
        RecordedCamera(_camera_model(table, ego_in_imu), images)
        for table in tables
        if table.metadata.get("camera_model") in _PINHOLE and (images := _images(table))
    )


def _images(table: Py123dTable) -> tuple[CameraImage, ...]:
    data = table.column("data")
    if data.type not in (pa.binary(), pa.large_binary()):
        return ()
    return tuple(
        CameraImage(int(stamp), content)
        for stamp, content in zip(table.stamps_ns(), data.to_pylist(), strict=True)
        if content is not None and content.startswith(_JPEG)
    )


def _camera_model(table: Py123dTable, ego_in_imu: FloatArray) -> CameraModel:
    fx, fy, cx, cy, _ = table.numbers("intrinsics", 5).tolist()
    lens = None
    if table.metadata.get("distortion") is not None and not table.metadata.get("is_undistorted"):
        coefficients: Sequence[float] = table.numbers("distortion", 5).tolist()
        lens = Distortion("plumb_bob", tuple(coefficients)) if any(coefficients) else None
    camera = CameraModel(
        name=table.file.stem.removeprefix("camera."),
        width=table.setting("width", int),
        height=table.setting("height", int),
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        ego_from_camera=inverse(ego_in_imu) @ _pose(table, "camera_to_imu_se3"),
        distortion=lens,
    )
    return checked_camera(camera, f"{table.file}: metadata")
