"""Commands that turn recordings into logs, and logs into bags."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from rap_bringup.bags import write_bag
from rap_bringup.console import Report, progress_bar
from rap_bringup.drives.argoverse2 import read_argoverse2
from rap_bringup.drives.bag import read_bag
from rap_bringup.drives.commonroad import read_commonroad
from rap_bringup.drives.dgp import read_dgp
from rap_bringup.drives.nuscenes import read_nuscenes
from rap_bringup.drives.nuscenes_keyframe import read_keyframe_drive
from rap_bringup.drives.recorded_drive import RecordedDrive
from rap_evaluation.drive_export import camera_rig, eventful_drive, recorded_drive, whole_drive
from rap_evaluation.logs.drive_log import DriveLog, LogError
from rap_evaluation.logs.drive_recording import recording_of
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.plausibility import doubts
from rap_evaluation.logs.py123d_reader import read_py123d
from rap_evaluation.logs.recording import Engagement, Recording
from rap_inference.bundle import load_bundle
from rap_raster.ego_history import MAX_GAP_S
from rap_raster.maps.lanelet2_file import Projection, ProjectionKind, stated_projection
from rap_raster.maps.map_file import load_map
from rap_raster.maps.vector_map import VectorMap
from rap_raster.vehicle import VehicleDimensions

SIMULATED_S = 24.0
"""Default length of bags of simulated drives, which last as long as one likes."""


class Source(str, Enum):
    """Kinds of recordings."""

    NUSCENES = "nuscenes"
    ARGOVERSE2 = "argoverse2"
    COMMONROAD = "commonroad"
    DGP = "dgp"
    BAG = "bag"
    PY123D = "py123d"


_Size = tuple[float, float, float, float]

ProjectionOption = Annotated[
    ProjectionKind | None,
    typer.Option(help="Of a Lanelet2 map; default: local where all nodes have it, else utm."),
]
OriginOption = Annotated[
    tuple[float, float] | None,
    typer.Option(
        help="What utm or mgrs counts from, degrees; default: the map's first node.",
        metavar="LAT LON",
    ),
]
VehicleOption = Annotated[
    _Size | None,
    typer.Option(
        help="Size of the recording vehicle and how far its centre is ahead of its rear axle, "
        "metres; default: what the recording tells; bags tell nothing: 5.18 2.30 1.78 1.46.",
        metavar="LENGTH WIDTH HEIGHT REAR_AXLE_TO_CENTER",
    ),
]


def log_command(
    kind: Annotated[Source, typer.Argument(help="Kind of the recording.")],
    source: Annotated[Path, typer.Argument(help="The recording.", metavar="SOURCE")],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the log; made if missing.")],
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map",
            help="OpenDRIVE (.xodr) or Lanelet2 (.osm) map that takes the place of the "
            "recording's; of py123d its map file.",
        ),
    ] = None,
    projection: ProjectionOption = None,
    origin: OriginOption = None,
    vehicle: VehicleOption = None,
    license_text: Annotated[
        str | None,
        typer.Option("--license", help="Its terms, one line; default: what it tells."),
    ] = None,
) -> None:
    """Turns a recording into a log, from which any of its vehicles can be the ego.

    SOURCE is, for nuscenes, a scene (.npz) or a keyframe folder; for argoverse2 a log folder; for
    commonroad a scenario (.xml); for dgp a scene folder; for py123d a log folder; for bag a rosbag2
    folder or the drive.mcap that `rap replay` leaves.

    Example: rap-evaluate log nuscenes scene-0796.npz --out out/logs/real/scene-0796

    Example: rap-evaluate log bag fleet/2026-03-01 --map town.xodr --vehicle 4.6 1.9 1.5 1.4
    --out out/logs/fleet/2026-03-01

    Example: rap-evaluate log bag fleet/2026-03-01 --map town.osm --projection mgrs
    --out out/logs/fleet/2026-03-01
    """
    wanted = _stated_projection(kind, map_file, projection, origin)
    left_out: tuple[str, ...] = ()
    with progress_bar(f"reading {source.name}") as report:
        if kind is Source.PY123D:
            recording = _py123d(source, map_file, vehicle)
        else:
            vector_map = None if map_file is None else load_map(map_file, wanted)
            drive = _drive(kind, source, vector_map, vehicle, report)
            recording, left_out = recording_of(drive), drive.left_out
    if license_text is not None:
        recording = replace(recording, license=license_text)
    write_log(out, recording)
    sys.stdout.write(f"{out}: {_summary(recording)}\n")
    for line in (*_missing(recording), *doubts(recording), *left_out):
        sys.stdout.write(f"  {line}\n")


def _py123d(source: Path, map_file: Path | None, vehicle: _Size | None) -> Recording:
    if vehicle is not None:
        raise ValueError("--vehicle: logs of py123d tell it themselves")
    return read_py123d(source, map_file)


def _stated_projection(
    kind: Source,
    map_file: Path | None,
    projection: ProjectionKind | None,
    origin_deg: tuple[float, float] | None,
) -> Projection | None:
    if projection is not None and (map_file is None or kind is Source.PY123D):
        raise ValueError("--projection: is that of a Lanelet2 file; give one with --map")
    try:
        return stated_projection(projection, origin_deg)
    except ValueError as error:
        raise ValueError(f"--origin: {error}") from error


def _drive(
    kind: Source,
    source: Path,
    vector_map: VectorMap | None,
    vehicle: _Size | None,
    report: Report,
) -> RecordedDrive:
    drive = _reader(kind, source, report)(source)
    if vector_map is not None:
        drive = replace(drive, map=vector_map)
    return drive if vehicle is None else replace(drive, vehicle=_dimensions(vehicle))


def _reader(kind: Source, source: Path, report: Report) -> Callable[[Path], RecordedDrive]:
    readers: dict[Source, Callable[[Path], RecordedDrive]] = {
        Source.NUSCENES: read_keyframe_drive if source.is_dir() else read_nuscenes,
        Source.ARGOVERSE2: read_argoverse2,
        Source.COMMONROAD: read_commonroad,
        Source.DGP: read_dgp,
        Source.BAG: lambda path: read_bag(path, report),
    }
    return readers[kind]


def _dimensions(numbers: _Size) -> VehicleDimensions:
    vehicle = VehicleDimensions(*numbers)
    sizes = vehicle.length_m, vehicle.width_m, vehicle.height_m
    if not min(sizes) > 0 or not 0 <= vehicle.rear_axle_to_center_m < vehicle.length_m:
        raise ValueError(f"--vehicle: expected sizes > 0 and the axle within them, got {numbers}")
    return vehicle


def _summary(recording: Recording) -> str:
    images = sum(len(camera.images) for camera in recording.cameras)
    return (
        f"{recording.name}, {len(recording.stamps_ns)} steps, {len(recording.tracks)} tracks, "
        f"{recording.lights.states.shape[1]} lights, "
        f"{images} images of {len(recording.cameras)} cameras"
    )


def _missing(recording: Recording) -> list[str]:
    """Returns a line for everything that a log can have and this one has not."""
    area, engaged = recording.map.polygons, recording.engaged
    known = engaged is not None and (engaged != Engagement.UNKNOWN).any()
    gaps = len(recording.egos) - 1
    others = len(recording.tracks) > len(recording.egos)
    lines = (
        (others, "no objects: rasters and samples show empty roads"),
        (recording.map.lanes, "no lanes: no routes, no commands from them; --map gives some"),
        (len(area), "no drivable area: no checks of leaving the road"),
        (recording.cameras, "no cameras: no pairs of images and rasters"),
        (known, "not known whether the vehicle drove itself"),
        (
            not gaps,
            f"{gaps} gaps of more than {MAX_GAP_S:g} s in odometry or objects: none is there",
        ),
        (recording.license, "no license stated: give one with --license"),
    )
    return [line for found, line in lines if not found]


def bag_command(
    log: Annotated[Path, typer.Argument(help="Log folder.")],
    *,
    out: Annotated[Path, typer.Option(help="rosbag2 folder to make; must be new or empty.")],
    seconds: Annotated[
        float | None,
        typer.Option(min=1.0, help="Length; default: all of a recorded drive, 24 s of others."),
    ] = None,
    seat: Annotated[
        int | None,
        typer.Option(
            help="Track id of the ego; default: the recording vehicle, and the most eventful drive "
            "of a simulated log."
        ),
    ] = None,
    cameras: Annotated[
        bool, typer.Option(help="Simulate the bundle's cameras in place of the log's own.")
    ] = False,
    planner: Annotated[Path, typer.Option(help="Bundle whose rig is used.")] = Path(
        "models/default"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of light and noise.")] = 1,
) -> None:
    """Writes a drive of a log as a bag for `rap replay`.

    Example: rap-evaluate bag out/logs/validate/Town02-seed1 --out out/bags/town02 --cameras

    Example: rap-evaluate bag out/logs/fleet/2026-03-01 --out out/bags/2026-03-01
    """
    opened = DriveLog.open(log)
    rig = camera_rig(load_bundle(planner)) if cameras else ()
    chosen, first, length_s = _stretch(opened, seat, seconds)
    with progress_bar(f"driving track {chosen}") as report:
        drive = recorded_drive(opened, chosen, first, length_s, rig=rig, seed=seed, report=report)
    counts = write_bag(drive, out)
    sys.stdout.write(f"{out}: {drive.name}, {sum(counts.values())} messages\n")


def _stretch(log: DriveLog, seat: int | None, seconds: float | None) -> tuple[int, int, float]:
    """Returns seat, first step and length in seconds of the drive that was asked for."""
    if not log.is_recorded:
        length_s = SIMULATED_S if seconds is None else seconds
        if seat is None:
            return *eventful_drive(log, length_s), length_s
        return seat, log.first_step(seat), length_s
    if seat is None and not log.egos:
        raise LogError(f"{log.name}: has no ego: give one with --seat")
    chosen = _longest_piece(log) if seat is None else seat
    first, whole_s = whole_drive(log, chosen)
    return chosen, first, whole_s if seconds is None else seconds


def _longest_piece(log: DriveLog) -> int:
    """Returns the longest of the tracks that a vehicle became at gaps, and tells of the others."""
    seconds = {seat: whole_drive(log, seat)[1] for seat in log.egos}
    chosen = max(log.egos, key=lambda seat: seconds[seat])
    if len(seconds) > 1:
        sys.stdout.write(
            f"{log.name}: its vehicle is there in {len(seconds)} pieces; this is the longest, "
            f"track {chosen}: {seconds[chosen]:.1f} of {sum(seconds.values()):.1f} s (--seat)\n"
        )
    return chosen
