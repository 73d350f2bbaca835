"""Argoverse 2 sensor logs: annotated boxes at 10 Hz, ego poses and the HD map; no images.

The ego frame of these logs is the rear axle at axle height, 0.33 m above the road; boxes are given
in it. Roads have slopes and our poses have no pitch, so everything is laid on a flat map: boxes
keep the height over the road that the vehicle saw, the map and the ego lie at zero.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rap_bringup.drives.map_lines import outlines, pieces, thinned
from rap_bringup.drives.odometry import ODOMETRY_HZ, states_from_poses
from rap_bringup.drives.recorded_drive import (
    DriveError,
    RecordedDrive,
    RecordedObjects,
    checked_boxes,
    route_of_drive,
)
from rap_perception.rig import rotation_from_quaternion
from rap_raster.frames import FloatArray, to_parent, wrap_angle
from rap_raster.maps.vector_map import Lane, VectorMap
from rap_raster.scene import Lights, LineKind, ObjectClass, PolygonKind, Shapes
from rap_raster.vehicle import VehicleDimensions

LICENSE = "Argoverse 2, CC BY-NC-SA 4.0: non-commercial, attribution"

FORD_FUSION = VehicleDimensions(4.877, 2.000, 1.473, 1.339)
"""The recording vehicle. Source: size of the EGO_VEHICLE rows in Argoverse 2 annotations; rear axle
from py123d 0.7, `parser/av2/utils/av2_constants.py`."""

AXLE_HEIGHT_M = 0.33
"""Measured on both logs: the ego frame is 0.30 and 0.32 m above the logs' ground height maps, and
vehicles within 15 m stand 0.37 m below its origin."""

EGO_CATEGORY = "EGO_VEHICLE"

CLASSES = {
    "REGULAR_VEHICLE": ObjectClass.VEHICLE,
    "LARGE_VEHICLE": ObjectClass.TRUCK,
    "BOX_TRUCK": ObjectClass.TRUCK,
    "TRUCK": ObjectClass.TRUCK,
    "TRUCK_CAB": ObjectClass.TRUCK,
    "VEHICULAR_TRAILER": ObjectClass.TRUCK,
    "BUS": ObjectClass.BUS,
    "SCHOOL_BUS": ObjectClass.BUS,
    "ARTICULATED_BUS": ObjectClass.BUS,
    "MOTORCYCLE": ObjectClass.MOTORCYCLE,
    "MOTORCYCLIST": ObjectClass.MOTORCYCLE,
    "BICYCLE": ObjectClass.BICYCLE,
    "BICYCLIST": ObjectClass.BICYCLE,
    "WHEELED_DEVICE": ObjectClass.BICYCLE,
    "WHEELED_RIDER": ObjectClass.BICYCLE,
    "PEDESTRIAN": ObjectClass.PEDESTRIAN,
    "STROLLER": ObjectClass.PEDESTRIAN,
    "WHEELCHAIR": ObjectClass.PEDESTRIAN,
    "OFFICIAL_SIGNALER": ObjectClass.PEDESTRIAN,
    "CONSTRUCTION_CONE": ObjectClass.CONE,
    "CONSTRUCTION_BARREL": ObjectClass.CONE,
    "BOLLARD": ObjectClass.BARRIER,
}
"""Categories that are not listed become GENERIC."""

DRIVEN_LANES = ("VEHICLE", "BUS")
CENTERLINE_POINTS = 20

Columns = dict[str, npt.NDArray[Any]]
Json = Any


def read_argoverse2(path: Path) -> RecordedDrive:
    """Reads one log.

    Args:
        path: The log's folder.

    Raises:
        DriveError: If a file or field is missing or has a value no node could use.
    """
    if not path.is_dir():
        raise DriveError(f"{path}: not an Argoverse 2 log folder")
    pose_file = path / "city_SE3_egovehicle.feather"
    stamps_ns, poses = _poses(pose_file)
    vector_map = _vector_map(_only(path / "map", "log_map_archive_*.json"), path.name)
    annotations = _only(path, "annotations*.feather")
    kept = _at_most(stamps_ns, ODOMETRY_HZ)
    route_m, route_source = route_of_drive(vector_map, poses[kept][:, [0, 1, 3]])
    return RecordedDrive(
        name=f"argoverse2-{path.name[:8]}",
        license=LICENSE,
        map=vector_map,
        ego=states_from_poses(stamps_ns[kept], poses[kept]),
        objects=_objects(annotations, stamps_ns, poses),
        cameras=(),
        route_m=route_m,
        route_source=route_source,
        vehicle=FORD_FUSION,
    )


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise DriveError(f"{folder}: no {pattern} in it")
    return found[0]


def _table(path: Path, names: Iterable[str]) -> Columns:
    try:
        from pyarrow import ArrowException, feather  # noqa: PLC0415 - only this reader needs it
    except ImportError as error:
        raise DriveError(f"{path}: reading it needs pyarrow: run make setup") from error
    try:
        table = feather.read_table(path)
        missing = [name for name in names if name not in table.column_names]
        if missing:
            raise DriveError(f"{path}: column {missing[0]} is missing")
        return {name: table[name].to_numpy() for name in names}
    except (OSError, ArrowException) as error:
        raise DriveError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


def _poses(path: Path) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Returns stamps and (T, 4) x, y, z, yaw of the rear axle, laid on the flat map."""
    columns = _table(path, ("timestamp_ns", "qw", "qx", "qy", "qz", "tx_m", "ty_m"))
    order = np.argsort(columns["timestamp_ns"], kind="stable")
    yaws = _yaws(path, columns)[order]
    places = np.column_stack([columns["tx_m"], columns["ty_m"]])[order]
    if len(yaws) < 2 or not np.isfinite(places).all():
        raise DriveError(f"{path}: expected 2 poses or more with finite tx_m and ty_m")
    stamps_ns = columns["timestamp_ns"][order].astype(np.int64)
    return stamps_ns, np.column_stack([places, np.zeros(len(yaws)), yaws])


def _yaws(path: Path, columns: Columns) -> FloatArray:
    quaternions = np.column_stack([columns[name] for name in ("qx", "qy", "qz", "qw")])
    lengths = np.linalg.norm(quaternions, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) < 1e-3))
    if len(bad):
        raise DriveError(f"{path}: row {bad[0]}: quaternion has length {lengths[bad[0]]:.4g}")
    turns = [rotation_from_quaternion(q) for q in quaternions / lengths[:, None]]
    return np.array([np.arctan2(turn[1, 0], turn[0, 0]) for turn in turns])


def _at_most(stamps_ns: npt.NDArray[np.int64], rate_hz: float) -> npt.NDArray[np.intp]:
    """Chooses samples so that none comes sooner than a period after the one before."""
    kept, next_ns = [], int(stamps_ns[0])
    for index, stamp_ns in enumerate(stamps_ns):
        if stamp_ns >= next_ns:
            kept.append(index)
            next_ns = int(stamp_ns) + round(1e9 / rate_hz)
    return np.array(kept, dtype=np.intp)


def _objects(
    path: Path, stamps_ns: npt.NDArray[np.int64], poses: FloatArray
) -> tuple[RecordedObjects, ...]:
    names = ("timestamp_ns", "track_uuid", "category", "length_m", "width_m", "height_m",
             "qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")  # fmt: skip
    columns = _table(path, names)
    yaws_ego = _yaws(path, columns)
    short_ids: dict[str, int] = {}
    before: dict[int, FloatArray] = {}
    before_ns = 0
    result = []
    for stamp_ns in np.unique(columns["timestamp_ns"]):
        seen = columns["timestamp_ns"] == stamp_ns
        seen &= columns["category"] != EGO_CATEGORY
        ego = _pose_at(path, int(stamp_ns), stamps_ns, poses)
        rows = _rows(columns, np.flatnonzero(seen), yaws_ego, ego, short_ids)
        for row in rows:
            if int(row[0]) in before:
                row[9:11] = (row[2:4] - before[int(row[0])]) / ((stamp_ns - before_ns) * 1e-9)
        boxes = checked_boxes(rows, f"{path}: stamp {stamp_ns}")
        result.append(RecordedObjects(int(stamp_ns), boxes, Lights.empty()))
        before, before_ns = {int(row[0]): row[2:4].copy() for row in rows}, int(stamp_ns)
    return tuple(result)


def _pose_at(
    path: Path, stamp_ns: int, stamps_ns: npt.NDArray[np.int64], poses: FloatArray
) -> FloatArray:
    index = int(np.searchsorted(stamps_ns, stamp_ns))
    if index == len(stamps_ns) or stamps_ns[index] != stamp_ns:
        raise DriveError(f"{path}: stamp {stamp_ns} has no ego pose")
    return np.asarray(poses[index], dtype=np.float64)


def _rows(
    columns: Columns,
    chosen: npt.NDArray[np.intp],
    yaws_ego: FloatArray,
    ego: FloatArray,
    short_ids: dict[str, int],
) -> FloatArray:
    """Returns (N, 11) box rows on the flat map, velocities unknown."""
    local = np.column_stack([columns["tx_m"], columns["ty_m"], yaws_ego])[chosen]
    placed = to_parent(ego[[0, 1, 3]], local)
    heights = columns["tz_m"][chosen] + AXLE_HEIGHT_M
    ids = [
        short_ids.setdefault(str(uuid), len(short_ids) + 1)
        for uuid in columns["track_uuid"][chosen]
    ]
    classes = [
        int(CLASSES.get(str(category), ObjectClass.GENERIC))
        for category in columns["category"][chosen]
    ]
    sizes = [columns[name][chosen] for name in ("length_m", "width_m", "height_m")]
    unknown = np.full(len(chosen), np.nan)
    return np.column_stack(
        [ids, classes, placed[:, :2], heights, *sizes, placed[:, 2], unknown, unknown]
    )


def _vector_map(path: Path, name: str) -> VectorMap:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        segments = {str(s["id"]): s for s in content["lane_segments"].values()}
        lanes = _lanes(segments)
        lines = _lines(segments, lanes)
        areas: list[tuple[int, FloatArray]] = []
        rings = [_flat(area["area_boundary"]) for area in content["drivable_areas"].values()]
        areas += [(int(PolygonKind.DRIVABLE), thinned(ring, closed=True)) for ring in rings]
        for edge in outlines(rings):
            lines += [(int(LineKind.ROAD_BOUNDARY), piece) for piece in pieces(thinned(edge))]
        for crossing in content["pedestrian_crossings"].values():
            first, second = _flat(crossing["edge1"]), _flat(crossing["edge2"])
            areas.append((int(PolygonKind.CROSSWALK), np.concatenate([first, second[::-1]])))
    except OSError as error:
        raise DriveError(f"{path}: cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise DriveError(f"{path}: field {error.args[0]!r} is missing") from error
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise DriveError(f"{path}: malformed: {' '.join(str(error).split())}") from error
    return VectorMap(
        f"argoverse2 {name[:8]}", Shapes.from_list(lines), Shapes.from_list(areas), lanes
    )


def _flat(points: Json) -> FloatArray:
    """Returns (n, 3) points on the flat map."""
    return np.array([(float(p["x"]), float(p["y"]), 0.0) for p in points]).reshape(-1, 3)


def _lanes(segments: dict[str, Json]) -> dict[str, Lane]:
    driven = {i: s for i, s in segments.items() if s["lane_type"] in DRIVEN_LANES}
    centerlines = {i: _centerline(s) for i, s in driven.items()}
    return {
        lane_id: Lane(
            id=lane_id,
            centerline_m=centerlines[lane_id],
            left_m=_flat(segment["left_lane_boundary"]),
            right_m=_flat(segment["right_lane_boundary"]),
            successors=tuple(str(s) for s in segment["successors"] if str(s) in driven),
            left_neighbor=_same_way(lane_id, segment["left_neighbor_id"], centerlines),
            right_neighbor=_same_way(lane_id, segment["right_neighbor_id"], centerlines),
            in_junction=bool(segment["is_intersection"]),
        )
        for lane_id, segment in driven.items()
    }


def _centerline(segment: Json) -> FloatArray:
    """Mean of both edges at equal shares of their lengths."""
    edges = [_resampled(_flat(segment[f"{side}_lane_boundary"])) for side in ("left", "right")]
    result: FloatArray = 0.5 * (edges[0] + edges[1])
    return result


def _resampled(line: FloatArray, count: int = CENTERLINE_POINTS) -> FloatArray:
    lengths = np.linalg.norm(np.diff(line, axis=0), axis=1)
    arc_m = np.concatenate([[0.0], np.cumsum(lengths)])
    wanted = np.linspace(0.0, arc_m[-1], count)
    return np.column_stack([np.interp(wanted, arc_m, column) for column in line.T])


def _same_way(lane_id: str, neighbor: Json, centerlines: dict[str, FloatArray]) -> str | None:
    """Returns a neighbour that leads the same way: the file lists oncoming lanes too."""
    other = str(neighbor)
    if neighbor is None or other not in centerlines:
        return None
    headings = []
    for line in (centerlines[lane_id], centerlines[other]):
        step = line[-1] - line[0]
        headings.append(np.arctan2(step[1], step[0]))
    return other if abs(wrap_angle(headings[1] - headings[0])) < np.pi / 2 else None


def _lines(segments: dict[str, Json], lanes: dict[str, Lane]) -> list[tuple[int, FloatArray]]:
    """Painted lane edges, each once though two lanes share it, and centrelines."""
    result: list[tuple[int, FloatArray]] = []
    drawn: set[tuple[tuple[float, float], ...]] = set()
    for segment in segments.values():
        for side in ("left", "right"):
            mark, line = (
                str(segment[f"{side}_lane_mark_type"]),
                _flat(segment[f"{side}_lane_boundary"]),
            )
            ends = tuple(sorted((float(p[0]), float(p[1])) for p in (line[0], line[-1])))
            if mark in ("NONE", "UNKNOWN") or ends in drawn:
                continue
            drawn.add(ends)
            kind = LineKind.LANE_DIVIDER if mark.startswith("DASH") else LineKind.LANE_BOUNDARY
            result += [(int(kind), piece) for piece in pieces(thinned(line))]
    for lane in lanes.values():
        result.append((int(LineKind.LANE_CENTERLINE), thinned(lane.centerline_m)))
    return result
