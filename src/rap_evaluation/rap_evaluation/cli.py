"""The `rap-evaluate` command."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from rap_bringup.console import progress_bar
from rap_bringup.processes import ProcessError
from rap_evaluation.closed_loop_commands import closed_loop_command
from rap_evaluation.log_commands import bag_command, log_command
from rap_evaluation.logs.drive_log import open_logs
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.recording import Recording
from rap_evaluation.metric_commands import COMMANDS
from rap_evaluation.open_loop import LogDriver, Seats, open_loop_report
from rap_evaluation.pseudo_sim_commands import pseudo_sim_command
from rap_evaluation.sim_commands import sim_command
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.recorder import record
from rap_evaluation.traffic.simulation import RecordOptions
from rap_evaluation.traffic.towns import map_path
from rap_inference.bundle import load_bundle
from rap_raster.scene import ObjectClass

app = typer.Typer(
    help="Records, replays and measures drives, offline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


@app.command("record")
def record_command(
    *,
    map_name: Annotated[str, typer.Option("--map", help="Town01, or a .xodr or .xodr.gz file.")],
    out: Annotated[Path, typer.Option(help="Folder of the log; made if missing.")],
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of the log.")] = 100.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the traffic.")] = 0,
    vehicles: Annotated[int, typer.Option(min=1, help="Kept on the road.")] = 70,
    pedestrians: Annotated[int, typer.Option(min=0, help="Kept walking.")] = 30,
    egos: Annotated[
        int,
        typer.Option(min=1, help="Cars whose drives are the log's own: those that get farthest."),
    ] = 1,
) -> None:
    """Records SUMO traffic on a map as a log that can be read from any vehicle's seat.

    Example: rap-evaluate record --map Town01 --seconds 100 --seed 1 --out out/logs/town01
    """
    path = map_path(map_name)
    options = RecordOptions(seconds, seed, vehicles, pedestrians, egos)
    with progress_bar(f"recording {path.name}") as report:
        recording = record(path, options, default_cache(), report)
    write_log(out, recording)
    sys.stdout.write(f"{out}: {_summary(recording)}\n")


@app.command("open-loop")
def open_loop_command(
    *,
    logs: Annotated[Path, typer.Option(help="Folder of logs.")],
    planner: Annotated[Path, typer.Option(help="Bundle folder.")] = Path("models/default"),
    count: Annotated[int, typer.Option(min=1, help="Moments to plan at.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of moments.")] = 0,
    egos: Annotated[bool, typer.Option("--egos", help="From recording vehicles alone.")] = False,
    min_travel: Annotated[
        float, typer.Option(min=0.0, help="Leave out seats that travel less, in metres.")
    ] = 0.0,
    sensor: Annotated[
        str, typer.Option(help="raster, camera (simulated), or logged: images of the log.")
    ] = "raster",
    slot: Annotated[
        list[str] | None,
        typer.Option(help="CAMERA:=SLOT for logged; default: the slot it looks like."),
    ] = None,
) -> None:
    """Compares planned with driven futures of logged scenes; prints JSON.

    Examples:
    rap-evaluate open-loop --logs out/logs/validate
    rap-evaluate open-loop --logs out/logs/nuscenes --egos --min-travel 20
    rap-evaluate open-loop --logs out/logs/fleet --egos --planner models/own --sensor logged
    """
    driver = LogDriver(load_bundle(planner), sensor, slots=_slots(slot or ()))
    seats = Seats(egos, min_travel)
    with progress_bar("measuring") as report:
        measured = open_loop_report(
            driver, open_logs(logs), seats, count=count, seed=seed, report=report
        )
    sys.stdout.write(json.dumps(measured.as_dict(), indent=2) + "\n")


app.command("closed-loop")(closed_loop_command)
app.command("log")(log_command)
app.command("bag")(bag_command)
app.command("pseudo-sim")(pseudo_sim_command)
app.command("sim")(sim_command)


def _slots(texts: Sequence[str]) -> dict[str, str]:
    slots = {}
    for text in texts:
        camera, _, slot = text.partition(":=")
        if not (camera and slot):
            raise ValueError(f"--slot {text}: expected CAMERA:=SLOT")
        slots[camera] = slot
    return slots


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
    except (
        ValueError,
        OSError,
        ProcessError,
    ) as error:  # all others are ValueErrors
        sys.exit(f"rap-evaluate: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
