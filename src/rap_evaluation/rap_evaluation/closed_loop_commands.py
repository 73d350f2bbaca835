"""Command of the closed loop: a planner drives routes through SUMO traffic."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from rap_bringup.console import progress_bar
from rap_evaluation.closed_loop.evaluation import ClosedLoopOptions, evaluate_closed_loop
from rap_evaluation.command_options import PlannerOption, RayOption, ReportFolder, SensorOption
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.towns import map_path


def closed_loop_command(
    *,
    planner: PlannerOption = "models/default",
    sensor: SensorOption = "raster",
    map_name: Annotated[str, typer.Option("--map", help="Town01, or a .xodr or .xodr.gz file.")],
    out: ReportFolder,
    routes: Annotated[int, typer.Option(help="How many, each of at least 300 m.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the routes and the traffic.")] = 0,
    replan_hz: Annotated[int, typer.Option(help="Plans a second: 1, 2, 5 or 10.")] = 2,
    guarded: Annotated[
        bool, typer.Option("--guard", help="Let the vehicle's guard choose among the candidates.")
    ] = False,
    ray_address: RayOption = None,
) -> None:
    """Drives routes through reactive traffic; writes report.json, report.html and videos.

    Every route that is not clean gets a video.

    Example: rap-evaluate closed-loop --planner pdm-closed --map Town02 --routes 4 --out out/closed
    """
    options = ClosedLoopOptions(
        planner=planner,
        sensor=sensor,
        map_path=map_path(map_name).resolve(),
        cache=default_cache(),
        out=out.resolve(),
        routes=routes,
        seed=seed,
        replan_hz=replan_hz,
        guarded=guarded,
        ray_address=ray_address,
    )
    with progress_bar("driving") as report:
        content = evaluate_closed_loop(options, report)
    figures = {key: value for key, value in content.items() if key != "per_route"}
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
