"""The `rap-evaluate` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from rap_evaluation.logs.drive_log import LogError
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.recording import Recording
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.recorder import record
from rap_evaluation.traffic.simulation import RecordOptions
from rap_evaluation.traffic.towns import TrafficError, town_path
from rap_raster.maps.opendrive import MapError
from rap_raster.scene import ObjectClass

app = typer.Typer(
    help="Records, replays and measures drives, offline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _root() -> None:
    """Keeps `rap-evaluate COMMAND` even while there is one command."""


@app.command("record")
def record_command(
    *,
    map_name: Annotated[str, typer.Option("--map", help="Town01, or a .xodr or .xodr.gz file.")],
    out: Annotated[Path, typer.Option(help="Folder of the log; made if missing.")],
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of the log.")] = 100.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the traffic.")] = 0,
    vehicles: Annotated[int, typer.Option(min=1, help="Kept on the road.")] = 70,
    pedestrians: Annotated[int, typer.Option(min=0, help="Kept walking.")] = 30,
) -> None:
    """Records SUMO traffic on a map as a log that can be read from any vehicle's seat.

    Example: rap-evaluate record --map Town01 --seconds 100 --seed 1 --out out/logs/town01
    """
    path = Path(map_name)
    options = RecordOptions(seconds, seed, vehicles, pedestrians)
    recording = _recorded(path if path.suffix in (".xodr", ".gz") else town_path(map_name), options)
    write_log(out, recording)
    sys.stdout.write(f"{out}: {_summary(recording)}\n")


def _recorded(path: Path, options: RecordOptions) -> Recording:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(f"recording {path.name}", total=1.0)
        recording = record(
            path, options, default_cache(), lambda share: progress.update(task, completed=share)
        )
        progress.update(task, completed=1.0)
    return recording


def _summary(recording: Recording) -> str:
    codes, counts = np.unique(recording.tracks.classes, return_counts=True)
    users = ", ".join(
        f"{count} {ObjectClass(code).name.lower()}"
        for code, count in zip(codes, counts, strict=True)
    )
    lights = recording.lights.states.shape[1]
    return f"{len(recording.stamps_ns)} steps, {users}, {lights} light heads"


def main() -> None:
    """Runs the command; known errors become one line on stderr and exit code 1."""
    try:
        app()
    except (TrafficError, MapError, LogError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
