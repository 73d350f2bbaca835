"""Recorded drives of real vehicles as logs: resampled to 10 Hz, every road user as a track."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rap_bringup.drives.recorded_drive import DriveError, RecordedDrive, RecordedObjects
from rap_evaluation.logs.recording import (
    STEP_NS,
    LightTracks,
    Recording,
    Tracks,
    typical_rear_axles,
)
from rap_raster.ego_history import MAX_GAP_S, EgoState
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.scene import ObjectClass
from rap_raster.vehicle import PACIFICA

EGO_ID = 1
"""Track id of the recording vehicle; others keep their order."""

_MIN_STEPS = 2


def recording_of(drive: RecordedDrive) -> Recording:
    """Turns a drive into a recording that logs are written from.

    The recording vehicle becomes a track of the size of the nominal ego. A road user that is not
    seen for more than `MAX_GAP_S` becomes a new one. Traffic lights are left out: no supported
    recording tells which lane they govern.

    Raises:
        DriveError: If the drive has no map, or no second of ego motion.
    """
    if drive.map is None or not drive.map.lanes:
        raise DriveError(f"{drive.name}: has no lanes, which logs need")
    stamps = np.array([state.stamp_ns for state in drive.ego], dtype=np.int64)
    grid = np.arange(stamps[0], stamps[-1] + 1, STEP_NS) if len(stamps) else stamps
    if len(grid) * STEP_NS <= 1e9:
        raise DriveError(f"{drive.name}: less than a second of ego motion")
    pieces = [(int(ObjectClass.VEHICLE), _ego_size(), 0, _ego_states(drive.ego, stamps, grid))]
    pieces += _object_pieces(drive.objects, grid)
    return Recording(
        name=drive.name.replace(" ", "-"),
        map=drive.map,
        stamps_ns=grid,
        tracks=_tracks(pieces),
        lights=_no_lights(len(grid)),
        provenance={"source": drive.name},
        license=drive.license,
        egos=(EGO_ID,),
    )


_Piece = tuple[int, FloatArray, int, FloatArray]
"""Class, size, first step and (n, 7) states of a track."""


def _ego_size() -> FloatArray:
    return np.array([PACIFICA.length_m, PACIFICA.width_m, PACIFICA.height_m])


def _ego_states(
    ego: Sequence[EgoState], stamps_ns: npt.NDArray[np.int64], grid_ns: npt.NDArray[np.int64]
) -> FloatArray:
    """Returns the (T, 7) states of the box whose rear axle the odometry is of."""
    rows = np.array([[s.x_m, s.y_m, s.z_m, s.yaw_rad, s.vx_mps, s.vy_mps] for s in ego])
    x, y, z, yaw, vx, vy = _resampled(rows, stamps_ns, grid_ns).T
    yaw_rate = np.gradient(np.unwrap(yaw), STEP_NS * 1e-9)
    ahead_m = PACIFICA.rear_axle_to_center_m
    cos, sin = np.cos(yaw), np.sin(yaw)
    across = vy + yaw_rate * ahead_m
    return np.column_stack(
        [x + ahead_m * cos, y + ahead_m * sin, z, yaw,
         cos * vx - sin * across, sin * vx + cos * across, yaw_rate]
    )  # fmt: skip


def _object_pieces(
    objects: Sequence[RecordedObjects], grid_ns: npt.NDArray[np.int64]
) -> list[_Piece]:
    """Returns the tracks of all road users, in the order of their ids and first steps."""
    seen: dict[int, list[tuple[int, RecordedObjects, int]]] = defaultdict(list)
    for instant in objects:
        for row, number in enumerate(instant.boxes.ids):
            seen[int(number)].append((instant.stamp_ns, instant, row))
    pieces = []
    for number in sorted(seen):
        stamps = np.array([stamp for stamp, _, _ in seen[number]], dtype=np.int64)
        cuts = np.flatnonzero(np.diff(stamps) > MAX_GAP_S * 1e9) + 1
        for run in np.split(np.arange(len(stamps)), cuts):
            piece = _piece([seen[number][k][1:] for k in run], stamps[run], grid_ns)
            if piece is not None:
                pieces.append(piece)
    return pieces


def _piece(
    sights: Sequence[tuple[RecordedObjects, int]],
    stamps_ns: npt.NDArray[np.int64],
    grid_ns: npt.NDArray[np.int64],
) -> _Piece | None:
    """Resamples one road user; None if it is there for less than two steps."""
    steps = np.flatnonzero((grid_ns >= stamps_ns[0]) & (grid_ns <= stamps_ns[-1]))
    if len(steps) < _MIN_STEPS:
        return None
    rows = np.array([
        [*instant.boxes.centers_m[row], instant.boxes.yaws_rad[row], *instant.boxes.sizes_m[row]]
        for instant, row in sights
    ])  # fmt: skip
    size = np.median(rows[:, 4:], axis=0)
    rows[:, 2] -= 0.5 * rows[:, 6]  # To the ground.
    x, y, z, yaw = _resampled(rows[:, :4], stamps_ns, grid_ns[steps]).T
    dt_s = STEP_NS * 1e-9
    velocity = [np.gradient(x, dt_s), np.gradient(y, dt_s), np.gradient(np.unwrap(yaw), dt_s)]
    first, row = sights[0]
    states = np.column_stack([x, y, z, yaw, *velocity])
    return int(first.boxes.classes[row]), size, int(steps[0]), states


def _resampled(
    rows: FloatArray, stamps_ns: npt.NDArray[np.int64], grid_ns: npt.NDArray[np.int64]
) -> FloatArray:
    """Interpolates rows whose fourth column is a heading."""
    columns = rows.copy()
    columns[:, 3] = np.unwrap(columns[:, 3])
    since_s, at_s = (stamps_ns - stamps_ns[0]) * 1e-9, (grid_ns - stamps_ns[0]) * 1e-9
    result = np.stack([np.interp(at_s, since_s, column) for column in columns.T], axis=-1)
    result[:, 3] = wrap_angle(result[:, 3])
    return result


def _tracks(pieces: Sequence[_Piece]) -> Tracks:
    first = np.array([piece[2] for piece in pieces], dtype=np.int32)
    counts = np.array([len(piece[3]) for piece in pieces], dtype=np.int32)
    ids = np.arange(EGO_ID, EGO_ID + len(pieces), dtype=np.int32)
    sizes_m = np.array([piece[1] for piece in pieces])
    return Tracks(
        ids=ids,
        source_ids=ids.astype(np.int64),
        classes=np.array([piece[0] for piece in pieces], dtype=np.uint8),
        sizes_m=sizes_m,
        rear_axles_m=typical_rear_axles(sizes_m),
        first_steps=first,
        last_steps=first + counts - 1,
        states=np.concatenate([piece[3] for piece in pieces]),
        observed=np.ones(counts.sum(), dtype=np.bool_),
    )


def _no_lights(steps: int) -> LightTracks:
    return LightTracks(
        lane_ids=(),
        centers_m=np.zeros((0, 3)),
        sizes_m=np.zeros((0, 3)),
        yaws_rad=np.zeros(0),
        states=np.zeros((steps, 0), dtype=np.uint8),
    )
