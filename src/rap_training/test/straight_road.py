"""A log of one car on a straight road along +x, with a junction under a light from x = 100 m on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from rap_evaluation.logs.drive_log import DriveLog, StoredLog
from rap_evaluation.logs.recording import LightTracks, Recording, Tracks
from rap_evaluation.logs.seat_routes import routes_and_commands
from rap_raster.maps.vector_map import Lane, VectorMap
from rap_raster.scene import LightState, ObjectClass, PolygonKind, Shapes

EGO, LENGTH_M, WIDTH_M, AXLE_M = 1, 4.6, 1.9, 1.3
STOP_LINE_M = 100.0
EDGES = (-200.0, STOP_LINE_M, 130.0, 400.0)


def road(*, drivable: bool = True) -> VectorMap:
    """Returns three lanes in a row, 10 m wide, the second one within the junction."""
    lanes, areas = {}, []
    for k, (start, end) in enumerate(pairwise(EDGES)):
        x = np.linspace(start, end, 40)
        line, left, right = (np.column_stack([x, np.full(40, y), 0 * x]) for y in (0.0, 5.0, -5.0))
        after = (f"lane{k + 1}",) if k < 2 else ()
        lanes[f"lane{k}"] = Lane(f"lane{k}", line, left, right, after, in_junction=k == 1)
        areas.append((PolygonKind.DRIVABLE, np.concatenate([left, right[::-1]])))
    nothing = Shapes.from_list([])
    return VectorMap("road", nothing, Shapes.from_list(areas if drivable else []),
                     lanes if drivable else {})  # fmt: skip


def drive_log(
    speeds_mps, *, x_m=0.0, others=(), light=LightState.GREEN, vector_map=None
) -> DriveLog:
    """Returns the log of a car with a speed at each step.

    Args:
        speeds_mps: (T,) of the ego.
        x_m: Where its rear axle starts.
        others: (T, 4) x, y, z, yaw of the centres of other cars.
        light: What the junction's light shows, always or (T,) at each step.
        vector_map: Default: `road()`.
    """
    speeds = np.asarray(speeds_mps, dtype=np.float64)
    steps = len(speeds)
    x = x_m + np.concatenate([[0.0], np.cumsum(0.05 * (speeds[1:] + speeds[:-1]))])
    zero = np.zeros(steps)
    runs = [np.column_stack([x + AXLE_M, zero, zero, zero, speeds, zero, zero])]
    runs += [np.column_stack([other, np.zeros((steps, 3))]) for other in others]
    count = len(runs)
    tracks = Tracks(
        ids=np.arange(1, count + 1, dtype=np.int32),
        source_ids=np.arange(1, count + 1),
        classes=np.full(count, ObjectClass.VEHICLE, np.uint8),
        sizes_m=np.tile([LENGTH_M, WIDTH_M, 1.5], (count, 1)),
        rear_axles_m=np.full(count, AXLE_M),
        first_steps=np.zeros(count, np.int32),
        last_steps=np.full(count, steps - 1, np.int32),
        states=np.concatenate(runs),
        observed=np.ones(count * steps, np.bool_),
    )
    codes = np.reshape(np.asarray(light, dtype=np.uint8), (-1, 1))
    lights = LightTracks(("lane1",), np.array([[STOP_LINE_M, 6.0, 4.0]]), np.ones((1, 3)),
                         np.zeros(1), np.broadcast_to(codes, (steps, 1)))  # fmt: skip
    stamps = np.arange(steps, dtype=np.int64) * 100_000_000
    return log_of(Recording("straight", vector_map or road(), stamps, tracks, lights, egos=(EGO,)))


def log_of(recording: Recording) -> DriveLog:
    """Returns a recording as a log, without files."""
    routes, commands = routes_and_commands(recording)
    return DriveLog(StoredLog(Path("none"), recording, routes, commands))
