"""Recorded drives of real vehicles as logs: resampled to 10 Hz, every road user as a track.

Steps are where the objects were seen, so that what was seen at 10 Hz comes back as it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, pairwise

import numpy as np
import numpy.typing as npt
from scipy.interpolate import make_interp_spline

from rap_bringup.drives.recorded_drive import DriveError, RecordedDrive, RecordedObjects
from rap_evaluation.logs.drive_lights import light_tracks
from rap_evaluation.logs.ego_motion import at_rear_axle
from rap_evaluation.logs.recording import NO_SOURCE_ID, STEP_NS, Engagement, Recording, Tracks
from rap_evaluation.logs.seat_routes import commands_along
from rap_planner.route import Command
from rap_raster.ego_history import MAX_GAP_S
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import ObjectClass, Shapes
from rap_raster.vehicle import REAR_AXLE_TO_CENTER_SHARE

Stamps = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A track in the making.

    Attributes:
        source_id: As in `Tracks`.
        object_class: `ObjectClass` code.
        size_m: (3,) length, width, height.
        rear_axle_m: Rear axle to box centre.
        first_step: Step of the log it begins at.
        states: (n, 7) `STATE_COLUMNS`.
        observed: (n,) as in `Tracks`.
    """

    source_id: int
    object_class: int
    size_m: FloatArray
    rear_axle_m: float
    first_step: int
    states: FloatArray
    observed: npt.NDArray[np.bool_]


def recording_of(drive: RecordedDrive) -> Recording:
    """Turns a drive into a recording that logs are written from.

    The recording vehicle becomes a track. A road user that is not seen for more than `MAX_GAP_S`
    becomes a new one with the same source id. The log lasts as long as objects were seen, or as the
    odometry where there are none: a step at which nobody looked would show an empty road. So the
    recording vehicle is a new track, too, after a gap in the objects, as after one in its odometry.

    Raises:
        DriveError: If the drive has no ego motion while objects were seen, or lies so far apart in
            time that its stamps cannot be of one clock.
    """
    grid_ns = _grid(drive)
    egos = _ego_pieces(drive, grid_ns)
    if not egos:
        raise DriveError(f"{drive.name}: no ego motion while objects were seen")
    pieces = egos + _object_pieces(drive.objects, grid_ns)
    tracks = _tracks(pieces)
    vector_map = drive.map or VectorMap("none", Shapes.from_list([]), Shapes.from_list([]))
    recording = Recording(
        name=drive.name.replace(" ", "-"),
        map=vector_map,
        stamps_ns=grid_ns,
        tracks=tracks,
        lights=light_tracks(drive.objects, grid_ns, vector_map),
        provenance={"source": drive.name, "route": drive.route_source},
        license=drive.license,
        egos=tuple(int(track) for track in tracks.ids[: len(egos)]),
        engaged=drive.engaged.at(grid_ns, Engagement.UNKNOWN) if drive.engaged else None,
        cameras=drive.cameras,
    )
    return replace(recording, known_commands=_known_commands(drive, recording))


LONGEST_NS = 24 * 3600 * 1_000_000_000
"""Of a recording: without PTP, computers begin in 1970."""


def _grid(drive: RecordedDrive) -> Stamps:
    """Returns the stamps of the steps: from the first to the last time anybody looked."""
    stamps = [step.stamp_ns for step in drive.objects] or [state.stamp_ns for state in drive.ego]
    if not drive.ego:
        raise DriveError(f"{drive.name}: no ego motion")
    if stamps[-1] - stamps[0] > LONGEST_NS:
        raise DriveError(
            f"{drive.name}: stamps from {stamps[0] * 1e-9:.0f} to {stamps[-1] * 1e-9:.0f} s: a "
            "clock was set while it was recorded; cut it behind that (rap bag ros2 --start)"
        )
    return np.arange(stamps[0], stamps[-1] + STEP_NS // 2, STEP_NS, dtype=np.int64)


def _ego_pieces(drive: RecordedDrive, grid_ns: Stamps) -> list[_Piece]:
    """Returns the tracks of the box whose rear axle the odometry is of."""
    vehicle = drive.vehicle
    size_m = np.array([vehicle.length_m, vehicle.width_m, vehicle.height_m])
    ahead_m = vehicle.rear_axle_to_center_m
    stamps = np.array([state.stamp_ns for state in drive.ego], dtype=np.int64)
    rows = np.array(
        [(s.x_m, s.y_m, s.z_m, s.yaw_rad, s.vx_mps, s.vy_mps, s.yaw_rate_radps) for s in drive.ego]
    )
    pieces = []
    looked = _looked(drive.objects, grid_ns)
    for run in _runs(stamps):
        steps, sampled, observed = _resampled(rows[run], stamps[run], grid_ns)
        states = _box_states(sampled, ahead_m)
        seen = np.flatnonzero(looked[steps])
        for part in np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1):
            if len(part):
                first, code = int(steps[part[0]]), int(ObjectClass.VEHICLE)
                own = states[part], observed[part]
                pieces.append(_Piece(NO_SOURCE_ID, code, size_m, ahead_m, first, *own))
    return pieces


def _looked(objects: Sequence[RecordedObjects], grid_ns: Stamps) -> npt.NDArray[np.bool_]:
    """Returns (T,) False for steps in gaps between objects; True for all where there are none."""
    looked = np.ones(len(grid_ns), dtype=np.bool_)
    stamps_ns = np.array([instant.stamp_ns for instant in objects], dtype=np.int64)
    runs = _runs(stamps_ns)
    for before, after in pairwise(runs):
        looked[(grid_ns > stamps_ns[before[-1]]) & (grid_ns < stamps_ns[after[0]])] = False
    return looked


def _box_states(rows: FloatArray, ahead_m: float) -> FloatArray:
    """Moves (n, 7) rear-axle states with ego-frame velocities to the box `ahead_m` of it."""
    x, y, z, yaw, vx, vy, yaw_rate = rows.T
    cos, sin = np.cos(yaw), np.sin(yaw)
    across = vy + yaw_rate * ahead_m
    velocity = [cos * vx - sin * across, sin * vx + cos * across]
    return np.column_stack([x + ahead_m * cos, y + ahead_m * sin, z, yaw, *velocity, yaw_rate])


def _object_pieces(objects: Sequence[RecordedObjects], grid_ns: Stamps) -> list[_Piece]:
    """Returns the tracks of all road users, in the order of their ids and first steps."""
    seen: dict[int, list[tuple[RecordedObjects, int]]] = defaultdict(list)
    for instant in objects:
        for row, number in enumerate(instant.boxes.ids):
            seen[int(number)].append((instant, row))
    pieces = []
    for number in sorted(seen):
        stamps = np.array([instant.stamp_ns for instant, _ in seen[number]], dtype=np.int64)
        for run in _runs(stamps):
            piece = _piece(number, [seen[number][k] for k in run], stamps[run], grid_ns)
            pieces += [piece] if piece is not None else []
    return pieces


def _runs(stamps_ns: Stamps) -> list[npt.NDArray[np.intp]]:
    """Cuts increasing stamps where they are too far apart to interpolate between."""
    cuts = np.flatnonzero(np.diff(stamps_ns) > MAX_GAP_S * 1e9) + 1
    return np.split(np.arange(len(stamps_ns)), cuts)


def _piece(
    number: int,
    sights: Sequence[tuple[RecordedObjects, int]],
    stamps_ns: Stamps,
    grid_ns: Stamps,
) -> _Piece | None:
    """Resamples one road user; None if no step is near its sights.

    Its size is the median of those seen, and its height above ground that of its box centre less
    half the median height, so that box centres come back as they were.
    """
    boxes = [(instant.boxes, row) for instant, row in sights]
    size_m = np.median([b.sizes_m[row] for b, row in boxes], axis=0)
    rows = np.array([
        [*b.centers_m[row], b.yaws_rad[row], *np.nan_to_num(b.velocities_mps[row])]
        for b, row in boxes
    ])  # fmt: skip
    rows[:, 2] -= 0.5 * size_m[2]
    steps, sampled, observed = _resampled(rows, stamps_ns, grid_ns)
    if not len(steps):
        return None
    code = int(np.bincount([b.classes[row] for b, row in boxes]).argmax())
    axle_m = float(size_m[0]) * REAR_AXLE_TO_CENTER_SHARE
    states = _with_motion(sampled)
    return _Piece(number, code, size_m, axle_m, int(steps[0]), states, observed)


def _with_motion(rows: FloatArray) -> FloatArray:
    """Gives (n, 6) rows with velocities as seen the motion of their places: (n, 7) states.

    A single sight keeps the velocity the source told; it stands where it told none.
    """
    if len(rows) == 1:
        return np.column_stack([rows, [0.0]])
    dt_s = STEP_NS * 1e-9
    columns = rows[:, 0], rows[:, 1], np.unwrap(rows[:, 3])
    return np.column_stack([rows[:, :4], *(np.gradient(column, dt_s) for column in columns)])


def _resampled(
    rows: FloatArray, stamps_ns: Stamps, grid_ns: Stamps
) -> tuple[npt.NDArray[np.intp], FloatArray, npt.NDArray[np.bool_]]:
    """Interpolates rows whose fourth column is a heading.

    Returns:
        steps: (n,) the steps from the one nearest to the first sight to the one nearest to the
            last; between a sight and a step beyond it, rows go on as they went before.
        sampled: (n, k) rows at these steps.
        observed: (n,) whether a sight is nearer to a step than to any other.
    """
    nearest = (stamps_ns - grid_ns[0] + STEP_NS // 2) // STEP_NS
    steps = np.arange(max(nearest[0], 0), min(nearest[-1], len(grid_ns) - 1) + 1)
    observed = np.isin(steps, nearest)
    at_s, since_s = (grid_ns[steps] - stamps_ns[0]) * 1e-9, (stamps_ns - stamps_ns[0]) * 1e-9
    columns = rows.copy()
    columns[:, 3] = np.unwrap(columns[:, 3])
    if len(rows) == 1:
        sampled = np.repeat(columns, len(steps), axis=0)
    else:
        sampled = make_interp_spline(since_s, columns, k=1)(at_s)
    sampled[:, 3] = wrap_angle(sampled[:, 3])
    return steps, sampled, observed


def _tracks(pieces: Sequence[_Piece]) -> Tracks:
    first = np.array([piece.first_step for piece in pieces], dtype=np.int32)
    counts = np.array([len(piece.states) for piece in pieces], dtype=np.int32)
    return Tracks(
        ids=_track_ids([piece.source_id for piece in pieces]),
        source_ids=np.array([piece.source_id for piece in pieces], dtype=np.int64),
        classes=np.array([piece.object_class for piece in pieces], dtype=np.uint8),
        sizes_m=np.array([piece.size_m for piece in pieces]),
        rear_axles_m=np.array([piece.rear_axle_m for piece in pieces]),
        first_steps=first,
        last_steps=first + counts - 1,
        states=np.concatenate([piece.states for piece in pieces]),
        observed=np.concatenate([piece.observed for piece in pieces]),
    )


def _track_ids(source_ids: Sequence[int]) -> npt.NDArray[np.int32]:
    """Gives the first track of every source id that id, and the smallest free ids to others."""
    taken = set(source_ids) | {NO_SOURCE_ID}
    free = (number for number in count(1) if number not in taken)
    used: set[int] = {NO_SOURCE_ID}
    ids = []
    for source in source_ids:
        ids.append(next(free) if source in used else source)
        used.add(source)
    return np.array(ids, dtype=np.int32)


def _known_commands(
    drive: RecordedDrive, recording: Recording
) -> Mapping[int, npt.NDArray[np.uint8]]:
    """Returns the ego's commands as the drive tells them, or as its route gives them."""
    commands = {}
    tracks = recording.tracks
    for row, track in enumerate(recording.egos):
        stamps = recording.stamps_ns[tracks.first_steps[row] : tracks.last_steps[row] + 1]
        if drive.commands is not None:
            commands[track] = drive.commands.at(stamps, Command.UNKNOWN)
        elif drive.route_m is not None:
            states = tracks.states[tracks.offsets[row] : tracks.offsets[row + 1]]
            poses = at_rear_axle(stamps, states, float(tracks.rear_axles_m[row])).poses
            commands[track] = commands_along(drive.route_m, poses)
    return commands
