"""Commands of the pseudo-simulation: logs of recorded drives, and planners scored on logs."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from rap_bringup.console import progress_bar
from rap_bringup.drives.argoverse2 import read_argoverse2
from rap_bringup.drives.commonroad import read_commonroad
from rap_bringup.drives.nuscenes import read_nuscenes
from rap_evaluation.command_options import PlannerOption, RayOption, ReportFolder, SensorOption
from rap_evaluation.logs.drive_recording import recording_of
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.pseudo_sim.evaluation import PseudoSimOptions, evaluate_pseudo_sim


class Source(str, Enum):
    """Recordings that have a map with lanes."""

    NUSCENES = "nuscenes"
    ARGOVERSE2 = "argoverse2"
    COMMONROAD = "commonroad"


_READERS = {
    Source.NUSCENES: read_nuscenes,
    Source.ARGOVERSE2: read_argoverse2,
    Source.COMMONROAD: read_commonroad,
}


def log_command(
    kind: Annotated[Source, typer.Argument(help="Kind of the recording.")],
    source: Annotated[Path, typer.Argument(help="The recording.", metavar="SOURCE")],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the log; made if missing.")],
) -> None:
    """Turns a public recording into a log, from which any of its vehicles can be the ego.

    Example: rap-evaluate log nuscenes scene-0796.npz --out out/logs/real/scene-0796
    """
    recording = recording_of(_READERS[kind](source))
    write_log(out, recording)
    steps, tracks = len(recording.stamps_ns), len(recording.tracks)
    sys.stdout.write(f"{out}: {recording.name}, {steps} steps, {tracks} tracks\n")


def pseudo_sim_command(
    *,
    planner: PlannerOption = "models/default",
    sensor: SensorOption = "raster",
    logs: Annotated[Path, typer.Option(help="Folder of logs.")],
    out: ReportFolder,
    scenes: Annotated[int, typer.Option(min=1, help="How many to draw from the logs.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    ray_address: RayOption = None,
) -> None:
    """Scores a planner on logs by NAVSIM's two stages, the second of which we draw ourselves.

    Example: rap-evaluate pseudo-sim --planner pdm-closed --logs out/logs/real --out out/pseudo
    """
    options = PseudoSimOptions(
        planner, sensor, logs.resolve(), out.resolve(), scenes, seed, ray_address
    )
    with progress_bar("planning") as report:
        content = evaluate_pseudo_sim(options, report)
    figures = {key: value for key, value in content.items() if key not in ("per_scene", "nearest")}
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
