"""Options that several commands of `rap-evaluate` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PlannerOption = Annotated[
    str, typer.Option(help="A bundle folder, pdm-closed or constant-velocity.")
]
SensorOption = Annotated[str, typer.Option(help="What a bundle sees with: raster or camera.")]
ReportFolder = Annotated[Path, typer.Option(help="Folder of the report; made if missing.")]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Spread the work over a Ray cluster: its HOST:PORT, or local.",
    ),
]
