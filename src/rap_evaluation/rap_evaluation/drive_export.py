"""A seat of a log as a recorded drive, which `rap_bringup.bags` writes as a bag.

The cameras are those of the recording, or simulated ones of a rig. The route is that of the lanes
the seat passes, as in every other bag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import numpy.typing as npt

from rap_bringup.console import Report, silent
from rap_bringup.drives.recorded_drive import (
    START_NS,
    CameraImage,
    RecordedCamera,
    RecordedDrive,
    RecordedObjects,
    Signal,
    route_of_drive,
)
from rap_evaluation.camera_sim import camera_jpeg
from rap_evaluation.logs.drive_log import DriveLog, LogError
from rap_evaluation.logs.recording import NO_SOURCE_ID, Engagement
from rap_evaluation.moments import Moment
from rap_evaluation.photo.daylight import Daylight
from rap_inference.bundle import Bundle
from rap_planner.route import Command
from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoState
from rap_raster.encoder import nominal_rig
from rap_raster.frames import wrap_angle
from rap_raster.maps.vector_map import VectorMap, shapes_near

MAP_MARGIN_M = 150.0
"""The raster node draws up to 120 m around the ego; the rest is for the crop's hysteresis."""

IMAGE_SIZE = (320, 160)
"""Width and height of simulated images: a little more than the default bundle reads."""


def recorded_drive(
    log: DriveLog,
    seat: int,
    first_step: int,
    seconds: float,
    *,
    rig: Sequence[CameraModel] = (),
    seed: int = 0,
    report: Report = silent,
) -> RecordedDrive:
    """Cuts a drive out of a log.

    Objects have the ids their source gave them, and only what was seen is among them. Recordings
    keep their stamps; simulated logs, which start at zero, start at `START_NS`.

    Args:
        log: The log.
        seat: Track id of the ego.
        first_step: Step of the log the drive starts with.
        seconds: Its length; the seat must exist as long.
        rig: Cameras to simulate; none for the log's own, if the seat is its ego.
        seed: Of the light and the noise of the cameras.
        report: Called with the share of pictures that is done.

    Raises:
        LogError: If the seat does not exist at all steps.
    """
    steps = range(first_step, first_step + round(seconds / log.dt_s) + 1)
    if steps[0] < log.first_step(seat) or steps[-1] > log.last_step(seat):
        raise LogError(
            f"{log.name}: track {seat} exists from step {log.first_step(seat)} to "
            f"{log.last_step(seat)}, not from {steps[0]} to {steps[-1]}"
        )
    stamps = log.stamps_ns[steps]
    if not log.is_recorded:
        stamps = stamps - stamps[0] + START_NS
    moments = [Moment(log, seat, step) for step in steps]
    path = log.ego_poses(seat)
    route_m, route_source = route_of_drive(log.map, path)
    return RecordedDrive(
        name=log.name if seat in log.egos else f"{log.name} track {seat}",
        license=log.license,
        map=_cropped(log.map, path[steps.start - log.first_step(seat) :][: len(steps)]),
        ego=tuple(map(_ego, moments, stamps.tolist())),
        objects=tuple(chain.from_iterable(map(_objects, moments, stamps.tolist()))),
        cameras=_simulated_cameras(moments, stamps, rig, seed, report)
        if rig
        else _logged_cameras(log, seat, stamps),
        route_m=route_m,
        route_source=route_source,
        vehicle=log.dimensions(seat),
        commands=None if route_m is not None else _commands(log, seat, steps, stamps),
        engaged=_engaged(log, seat, steps, stamps),
    )


def _ego(moment: Moment, stamp_ns: int) -> EgoState:
    return replace(moment.ego(), stamp_ns=stamp_ns)


def _objects(moment: Moment, stamp_ns: int) -> list[RecordedObjects]:
    """Returns what was seen at a moment; nothing where all that is known was interpolated."""
    log, step = moment.log, moment.step
    if log.is_recorded:
        boxes, lights = log.all_objects(step, moment.seat)
    else:
        scene = moment.scene()  # Simulated sensors do not see the whole town.
        boxes, lights = scene.boxes, scene.lights
    observed = log.observed(step, boxes.ids)
    if len(boxes) and not observed.any():
        return []
    seen = boxes.select(observed)
    return [RecordedObjects(stamp_ns, replace(seen, ids=_bag_ids(log, seen.ids)), lights)]


def _bag_ids(log: DriveLog, tracks: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Returns the ids the source gave, where a bag can hold them; tracks keep their own else."""
    sources = log.tracks.source_ids
    if sources.max(initial=0) > np.iinfo(np.int32).max or sources.min(initial=0) < NO_SOURCE_ID:
        return tracks
    of_track = dict(zip(log.tracks.ids.tolist(), sources.tolist(), strict=True))
    return np.array([of_track[int(track)] or track for track in tracks], dtype=np.int32)


def _simulated_cameras(
    moments: Sequence[Moment],
    stamps_ns: npt.NDArray[np.int64],
    rig: Sequence[CameraModel],
    seed: int,
    report: Report,
) -> tuple[RecordedCamera, ...]:
    """Takes a picture with every camera of a rig at every moment."""
    taken: list[list[CameraImage]] = [[] for _ in rig]
    for number, (moment, stamp_ns) in enumerate(zip(moments, stamps_ns.tolist(), strict=True)):
        for images, camera in zip(taken, rig, strict=True):
            images.append(CameraImage(stamp_ns, _jpeg(moment, camera, seed, number)))
        report((number + 1) / len(moments))
    return tuple(
        RecordedCamera(camera, tuple(images)) for camera, images in zip(rig, taken, strict=True)
    )


def _logged_cameras(
    log: DriveLog, seat: int, stamps_ns: npt.NDArray[np.int64]
) -> tuple[RecordedCamera, ...]:
    """Returns the log's own images between two steps, if the seat is the vehicle they are from."""
    if seat not in log.egos:
        return ()
    cameras = []
    for camera in log.cameras:
        within = (camera.stamps_ns >= stamps_ns[0]) & (camera.stamps_ns <= stamps_ns[-1])
        images = tuple(
            CameraImage(int(camera.stamps_ns[row]), camera.jpeg(row))
            for row in map(int, np.flatnonzero(within))
        )
        cameras += [RecordedCamera(camera.model, images)] if images else []
    return tuple(cameras)


def _commands(
    log: DriveLog, seat: int, steps: range, stamps_ns: npt.NDArray[np.int64]
) -> Signal | None:
    """Returns the commands of a seat without a route, or None if they are not known either."""
    first = log.first_step(seat)
    codes = log.commands(seat)[steps.start - first : steps.stop - first]
    return Signal(stamps_ns, codes) if (codes != Command.UNKNOWN).any() else None


def _engaged(
    log: DriveLog, seat: int, steps: range, stamps_ns: npt.NDArray[np.int64]
) -> Signal | None:
    """Returns whether the log's ego drove itself, where that is known."""
    codes = log.engaged[steps.start : steps.stop]
    known = codes != Engagement.UNKNOWN
    if seat not in log.egos or not known.any():
        return None
    return Signal(stamps_ns[known], codes[known])


def _jpeg(moment: Moment, camera: CameraModel, seed: int, frame: int) -> bytes:
    """Simulates and compresses one picture."""
    scene = moment.scene()
    picture = moment.log.camera_simulator.image(
        scene.ego, scene.boxes, scene.lights, camera, seed=seed, frame=frame
    )
    return camera_jpeg(picture, Daylight.from_seed(seed).jpeg_quality)


def whole_drive(log: DriveLog, seat: int) -> tuple[int, float]:
    """Returns first step and seconds of all that is known of a seat."""
    first = log.first_step(seat)
    return first, (log.last_step(seat) - first) * log.dt_s


def eventful_drive(log: DriveLog, seconds: float) -> tuple[int, int]:
    """Returns seat and first step of the drive with the most turning among those that get far.

    Raises:
        LogError: If no seat exists long enough.
    """
    steps = round(seconds / log.dt_s)
    best = None
    for seat in log.seats(min_steps=steps + 1):
        poses = log.ego_poses(seat)
        moved_m = np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1)
        turned_rad = np.abs(wrap_angle(np.diff(poses[:, 2])))
        for start in range(0, len(poses) - steps, round(1.0 / log.dt_s)):
            window = slice(start, start + steps)
            events = turned_rad[window].sum() + 0.01 * min(moved_m[window].sum(), 150.0)
            if best is None or events > best[0]:
                best = (events, seat, log.first_step(seat) + start)
    if best is None:
        raise LogError(f"{log.name}: no vehicle is there for {seconds:g} s")
    return best[1], best[2]


def camera_rig(bundle: Bundle) -> list[CameraModel]:
    """Returns the cameras of a bundle's nominal rig at the size simulated images have."""
    return [camera.resized(*IMAGE_SIZE) for camera in nominal_rig(bundle)]


def _cropped(vector_map: VectorMap, path_m: np.ndarray) -> VectorMap:
    """Returns what can be drawn along a path; no lanes, since a bag carries shapes only."""
    low, high = path_m[:, :2].min(axis=0), path_m[:, :2].max(axis=0)
    center, radius_m = (low + high) / 2, float((high - low).max()) / 2 + MAP_MARGIN_M
    return VectorMap(
        vector_map.name,
        shapes_near(vector_map.polylines, center, radius_m),
        shapes_near(vector_map.polygons, center, radius_m),
    )
