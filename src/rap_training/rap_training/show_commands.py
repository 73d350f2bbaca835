"""Command that shows samples to people."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import cv2
import typer

from rap_bringup.console import progress_bar
from rap_evaluation.logged_cameras import LoggedRigs
from rap_evaluation.logs.drive_log import open_logs
from rap_raster.styles import load_style
from rap_training.augmentation.mixture import MixtureError, name_of, sources_of
from rap_training.data_commands import ConfigOption, LogsOption, settings_of
from rap_training.rig import nominal_rig
from rap_training.show.choice import choose
from rap_training.show.sheet import TILE, draw_sheet
from rap_training.show.viewer_file import write_viewer_file
from rap_training.show.views import pictured

SHEET_NAME = "samples.png"
VIEWER_FILE_NAME = "samples.rrd"


def show_command(
    *,
    logs: LogsOption,
    out: Annotated[Path, typer.Option(help="Folder for samples.png and samples.rrd.")],
    config: ConfigOption = None,
    count: Annotated[int, typer.Option(min=1, help="Samples of each source.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Which samples.")] = 0,
    style: Annotated[str | None, typer.Option(help="Default: the configuration's.")] = None,
) -> None:
    """Shows samples of every source that has a weight: a contact sheet and a Rerun file.

    Example: rap-train show --logs out/logs/train --out out/show
    """
    settings = settings_of(config)
    raster_style = load_style(style or settings.data.style)
    opened = sources_of(open_logs(logs), settings.data.sources, settings.model)
    sources = [source for source, _ in opened]
    cameras = settings.data.cameras
    recorded = cameras.images == "logged"
    logged = LoggedRigs(nominal_rig(TILE), cameras.slots) if recorded else None
    samples = []
    with progress_bar("drawing") as report:
        chosen = choose(sources, settings.model, count, seed)
        for number, shown in enumerate(chosen, 1):
            samples.append(pictured(shown, raster_style, TILE, logged))
            report(number / len(chosen))
    if not samples:
        raise MixtureError(f"{logs}: no source gives a sample in which the ego moves")
    out.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(out / SHEET_NAME), draw_sheet(samples)):
        raise OSError(f"{out / SHEET_NAME}: cannot be written")
    write_viewer_file(samples, out / VIEWER_FILE_NAME)
    found = Counter(shown.situation.kind for shown in chosen)
    counts = ", ".join(f"{found[s.kind]} {name_of(s.kind)}" for s in sources)
    typer.echo(f"{out / SHEET_NAME}, {out / VIEWER_FILE_NAME}: {counts}")
