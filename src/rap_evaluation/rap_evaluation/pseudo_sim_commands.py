"""Command of the pseudo-simulation: planners scored on logs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from rap_bringup.console import progress_bar
from rap_evaluation.command_options import PlannerOption, RayOption, ReportFolder, SensorOption
from rap_evaluation.pseudo_sim.evaluation import PseudoSimOptions, evaluate_pseudo_sim


def pseudo_sim_command(
    *,
    planner: PlannerOption = "models/default",
    sensor: SensorOption = "raster",
    logs: Annotated[Path, typer.Option(help="Folder of logs.")],
    out: ReportFolder,
    scenes: Annotated[int, typer.Option(min=1, help="How many to draw from the logs.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    off_path_every: Annotated[
        int | None,
        typer.Option(min=1, help="Plan off the path, too, in one of so many scenes of a log."),
    ] = None,
    ray_address: RayOption = None,
) -> None:
    """Scores a planner on logs by NAVSIM's two stages, the second of which we draw ourselves.

    Example: rap-evaluate pseudo-sim --planner pdm-closed --logs out/logs/real --out out/pseudo
    """
    options = PseudoSimOptions(
        planner,
        sensor,
        logs.resolve(),
        out.resolve(),
        scenes,
        seed,
        ray_address,
        off_path_every=off_path_every,
    )
    with progress_bar("planning") as report:
        content = evaluate_pseudo_sim(options, report)
    figures = {key: value for key, value in content.items() if key not in ("per_scene", "nearest")}
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
