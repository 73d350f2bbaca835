"""nuScenes scenes: tracks at 10 Hz with the vector map around them, one `.npz` per scene.

The ego row follows the nuScenes ego pose, which is the rear axle on the ground (checked against the
keyframe of scene-0061); the other rows are box centres. Sizes are length, width, height. The ego's
row of sizes has length and width swapped in these files and is not used. Heights are as recorded:
the map is flat, the road is not, so far boxes may stand above or below it.

Velocity columns are forward differences: they know the next sample, and the last one is zero. They
are replaced by backward differences of the positions.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rap_bringup.drives.map_lines import pieces, thinned
from rap_bringup.drives.odometry import densified, states_from_poses
from rap_bringup.drives.recorded_drive import (
    START_NS,
    DriveError,
    RecordedDrive,
    RecordedObjects,
    checked_boxes,
    route_of_drive,
)
from rap_raster.frames import FloatArray
from rap_raster.maps.routing import connect_by_endpoints
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Lights, LineKind, ObjectClass, PolygonKind, Shapes
from rap_raster.vehicle import VehicleDimensions

LICENSE = "nuScenes, CC BY-NC-SA 4.0: non-commercial, attribution"

RENAULT_ZOE = VehicleDimensions(4.084, 1.730, 1.562, 1.385)
"""The recording vehicle. Source: py123d 0.7, `parser/nuscenes/utils/nuscenes_constants.py`; the
ego's row of sizes in these files says 4.08 x 1.73 x 1.56."""

Array = npt.NDArray[Any]

CLASSES = {
    "VEHICLE": ObjectClass.VEHICLE,
    "CYCLIST": ObjectClass.BICYCLE,
    "PEDESTRIAN": ObjectClass.PEDESTRIAN,
    "TRAFFIC_CONE": ObjectClass.CONE,
    "TRAFFIC_BARRIER": ObjectClass.BARRIER,
}

LINES = {
    "ROAD_LINE_BROKEN_SINGLE_WHITE": LineKind.LANE_DIVIDER,
    "ROAD_LINE_SOLID_SINGLE_WHITE": LineKind.LANE_BOUNDARY,
    "ROAD_LINE_SOLID_SINGLE_YELLOW": LineKind.LANE_BOUNDARY,
    "LANE_SURFACE_STREET": LineKind.LANE_CENTERLINE,
    "LANE_SURFACE_UNSTRUCTURE": LineKind.LANE_CENTERLINE,
}
"""Polyline types; the lines named LANE_SURFACE_* are centrelines in driving direction."""

AREAS = {
    "LANE_SURFACE_STREET": PolygonKind.DRIVABLE,
    "CROSSWALK": PolygonKind.CROSSWALK,
}
"""Polygon types. Sidewalks have no kind of ours; the road's edge comes from the outline lines."""

OUTLINE_PREFIX = "boundary_"
"""Solid lines with such an id are the outline of the drivable area, not paint."""

UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    AttributeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy raises on a damaged archive."""

FIELDS = (
    "track_id",
    "track_type",
    "state",
    "dims_lwh",
    "dt",
    "map_name",
    "map_pts",
    "map_off",
    "map_type",
    "map_id",
    "map_kind",
)

TRUCK_LENGTH_M = 6.0
"""The files know one vehicle type. No passenger car is longer than this; what is becomes a truck,
buses included, because nothing in the file tells those two apart."""


def read_nuscenes(path: Path) -> RecordedDrive:
    """Reads one scene.

    Args:
        path: A `scene-XXXX.npz`.

    Raises:
        DriveError: If the file is missing, not such a scene, or has values no node could use.
    """
    data = _load(path)
    state = _checked_state(path, data)
    steps_ns = START_NS + np.round(np.arange(state.shape[1]) * float(data["dt"]) * 1e9).astype(
        np.int64
    )
    vector_map = _vector_map(path, data)
    ego = state[0][:, [0, 1, 2, 3]]
    route_m, route_source = route_of_drive(vector_map, ego[:, [0, 1, 3]])
    return RecordedDrive(
        name=path.stem,
        license=LICENSE,
        map=vector_map,
        ego=states_from_poses(*densified(steps_ns, ego)),
        objects=_objects(path, data, state, steps_ns),
        cameras=(),
        route_m=route_m,
        route_source=route_source,
        vehicle=RENAULT_ZOE,
    )


def _load(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [name for name in FIELDS if name not in archive.files]
            if missing:
                raise DriveError(f"{path}: field {missing[0]} is missing")
            return {name: archive[name] for name in FIELDS}
    except UNREADABLE as error:
        if isinstance(error, DriveError):
            raise
        raise DriveError(f"{path}: not a scene file: {_one_line(error)}") from error


def _checked_state(path: Path, data: dict[str, Array]) -> FloatArray:
    state, tracks = data["state"], len(data["track_id"])
    if state.ndim != 3 or state.shape[0] != tracks or state.shape[2] != 7 or tracks == 0:
        raise DriveError(f"{path}: state has shape {state.shape}, expected ({tracks}, steps, 7)")
    if state.shape[1] < 2 or not float(data["dt"]) > 0:
        raise DriveError(f"{path}: expected 2 steps or more and dt > 0, got dt {data['dt']}")
    if not (np.isfinite(state[0, :, :4]).all() and (state[0, :, 6] > 0).all()):
        raise DriveError(f"{path}: state[0]: the ego must be valid and finite at every step")
    if data["dims_lwh"].shape != (tracks, 3):
        raise DriveError(f"{path}: dims_lwh has shape {data['dims_lwh'].shape}")
    result: FloatArray = state.astype(np.float64)
    return result


def _objects(
    path: Path, data: dict[str, Array], state: FloatArray, steps_ns: npt.NDArray[np.int64]
) -> tuple[RecordedObjects, ...]:
    classes = _classes(path, data)
    dt_s = float(data["dt"])
    result = []
    for step, stamp_ns in enumerate(steps_ns):
        seen = np.flatnonzero(state[:, step, 6] > 0)
        seen = seen[seen > 0]  # row 0 is the ego
        now = state[seen, step]
        rows = np.column_stack(
            [
                seen,
                classes[seen],
                now[:, :3],
                data["dims_lwh"][seen],
                now[:, 3],
                _velocities(state, seen, step, dt_s),
            ]
        )
        boxes = checked_boxes(rows, f"{path}: step {step}")
        result.append(RecordedObjects(int(stamp_ns), boxes, Lights.empty()))
    return tuple(result)


def _velocities(
    state: FloatArray, seen: npt.NDArray[np.intp], step: int, dt_s: float
) -> FloatArray:
    """Backward differences; NaN at the first sight of a track."""
    velocity = np.full((len(seen), 2), np.nan)
    if step > 0:
        before = state[seen, step - 1]
        known = before[:, 6] > 0
        velocity[known] = (state[seen, step, :2] - before[:, :2])[known] / dt_s
    return velocity


def _classes(path: Path, data: dict[str, Array]) -> npt.NDArray[np.uint8]:
    codes = np.zeros(len(data["track_type"]), dtype=np.uint8)
    for index, (kind, size) in enumerate(zip(data["track_type"], data["dims_lwh"], strict=True)):
        if str(kind) not in CLASSES:
            raise DriveError(
                f"{path}: track_type[{index}] is {str(kind)!r}, expected one of {sorted(CLASSES)}"
            )
        codes[index] = CLASSES[str(kind)]
        if kind == "VEHICLE" and size[0] >= TRUCK_LENGTH_M:
            codes[index] = ObjectClass.TRUCK
    return codes


def _vector_map(path: Path, data: dict[str, Array]) -> VectorMap:
    offsets = data["map_off"]
    shapes = len(data["map_type"])
    if len(offsets) != shapes + 1 or int(offsets[-1]) != len(data["map_pts"]):
        raise DriveError(
            f"{path}: map_off has {len(offsets)} entries up to {offsets[-1]}, expected "
            f"{shapes + 1} up to {len(data['map_pts'])}"
        )
    lines: list[tuple[int, FloatArray]] = []
    areas: list[tuple[int, FloatArray]] = []
    centerlines: dict[str, FloatArray] = {}
    for index in range(shapes):
        flat = data["map_pts"][offsets[index] : offsets[index + 1]].astype(np.float64)
        points = np.column_stack([flat, np.zeros(len(flat))])
        kind, name = str(data["map_type"][index]), str(data["map_id"][index])
        if data["map_kind"][index] == "polygon":
            areas += _areas(kind, points)
            continue
        lines += _lines(kind, name, points)
        if kind.startswith("LANE_SURFACE") and len(points) >= 2:
            centerlines[name] = points
    return VectorMap(
        name=str(data["map_name"]),
        polylines=Shapes.from_list(lines),
        polygons=Shapes.from_list(areas),
        lanes=connect_by_endpoints(centerlines),
    )


def _lines(kind: str, name: str, points: FloatArray) -> list[tuple[int, FloatArray]]:
    if kind not in LINES or len(points) < 2:
        return []
    code = LineKind.ROAD_BOUNDARY if name.startswith(OUTLINE_PREFIX) else LINES[kind]
    return [(int(code), piece) for piece in pieces(thinned(points))]


def _areas(kind: str, points: FloatArray) -> list[tuple[int, FloatArray]]:
    ring = points[:-1] if len(points) > 3 and (points[0] == points[-1]).all() else points
    if kind not in AREAS or len(ring) < 3:
        return []
    return [(int(AREAS[kind]), thinned(ring, closed=True))]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
