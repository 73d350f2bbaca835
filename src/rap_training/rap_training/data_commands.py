"""Commands of `rap-train` that make samples and look at what the logs give."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rap_bringup.console import progress_bar
from rap_evaluation.command_options import RayOption
from rap_evaluation.logged_cameras import LoggedRigs
from rap_evaluation.logs.drive_log import DriveLog, open_logs
from rap_evaluation.moments import Moment
from rap_training.augmentation.mixture import name_of, sources_of
from rap_training.augmentation.survey import SourceCount, survey
from rap_training.bench_data import bench_data
from rap_training.config import TrainingConfig, load_config
from rap_training.rig import nominal_rig
from rap_training.shards import ShardPlan, write_shards

LogsOption = Annotated[Path, typer.Option(help="Folder of logs.")]
ConfigOption = Annotated[
    Path | None, typer.Option(help="Training YAML, of which `data` counts; default: built in.")
]


def augment_command(
    *,
    logs: LogsOption,
    out: Annotated[Path, typer.Option(help="Folder of shards; a stopped run in it goes on.")],
    samples: Annotated[int, typer.Option(min=1, help="How many.")] = 10_000,
    shard_size: Annotated[int, typer.Option(min=1, help="Samples in a shard.")] = 500,
    config: ConfigOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Default: the configuration's.")] = None,
    ray_address: RayOption = None,
) -> None:
    """Writes augmented samples as WebDataset shards, for trainings that do not draw their own.

    Example: rap-train augment --logs out/logs/train --out out/shards --samples 20000 --ray local
    """
    plan = ShardPlan(
        logs.resolve(), out.resolve(), seeded(settings_of(config), seed), samples, shard_size
    )
    with progress_bar("writing shards") as report:
        manifest = write_shards(plan, ray_address=ray_address, report=report)
    sources = ", ".join(f"{count} {name}" for name, count in manifest["sources"].items())
    typer.echo(f"{out}: {samples} samples in {plan.shards} shards ({sources})")


def sources_command(
    *,
    logs: LogsOption,
    config: ConfigOption = None,
    tries: Annotated[int, typer.Option(min=1, help="Per start of recovery samples.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the tries.")] = 0,
) -> None:
    """Tries every start of every source; prints what each gives, and why it does not.

    Example: rap-train sources --logs out/logs/real --tries 6
    """
    settings = settings_of(config)
    opened = open_logs(logs)
    sources = sources_of(opened, settings.data.sources, settings.model)
    with progress_bar("trying") as report:
        counts = survey([source for source, _ in sources], tries, seed, report)
    Console().print(_table(counts))
    if settings.data.cameras.images == "logged":
        Console().print(_photos(opened, settings))


def bench_data_command(
    *,
    logs: LogsOption,
    config: ConfigOption = None,
    samples: Annotated[int, typer.Option(min=100, help="Of the mix.")] = 10_000,
    width: Annotated[int, typer.Option(min=16, help="Of a raster.")] = 512,
    height: Annotated[int, typer.Option(min=16, help="Of a raster.")] = 256,
    style: Annotated[str | None, typer.Option(help="Default: the configuration's.")] = None,
) -> None:
    """Measures samples per second and core, and the growth of memory; prints JSON.

    Every source is measured apart as well (null if the logs give no samples of it, or have no index
    of edits), and so are score targets: the scene of a sample, and 64 proposals scored in it.

    Example: rap-train bench-data --logs out/logs/train
    """
    settings = settings_of(config)
    changes = {"image_size": (width, height), "style": style or settings.data.style}
    settings = settings.model_copy(update={"data": settings.data.model_copy(update=changes)})
    with progress_bar("drawing") as report:
        figures = bench_data(open_logs(logs), settings, samples, report)
    typer.echo(json.dumps(figures, indent=2))


def settings_of(config: Path | None) -> TrainingConfig:
    """Reads a configuration, or returns the built-in one.

    Raises:
        ConfigError: If it cannot be used.
    """
    return load_config(config) if config else TrainingConfig()


def seeded(settings: TrainingConfig, seed: int | None) -> TrainingConfig:
    """Returns a configuration with another seed."""
    if seed is None:
        return settings
    optimizer = settings.optimizer.model_copy(update={"seed": seed})
    return settings.model_copy(update={"optimizer": optimizer})


def _photos(logs: Sequence[DriveLog], settings: TrainingConfig) -> Table:
    """Returns which cameras fill which slots, and how many steps have images of all of them."""
    rigs = LoggedRigs(nominal_rig(settings.data.image_size), settings.data.cameras.slots)
    table = Table("log", "images", "slots", "steps", "with images of all")
    for log in logs:
        rig = rigs.of(log)
        steps = [
            Moment(log, seat, step)
            for seat in log.egos
            for step in range(log.first_step(seat), log.last_step(seat) + 1)
        ]
        images = sum(len(camera.stamps_ns) for camera in log.cameras)
        slots = ", ".join(f"{slot}: {name}" for slot, name in rig.cameras.items()) or "none"
        seen = sum(rig.has_photo(moment) for moment in steps)
        table.add_row(log.name, str(images), slots, str(len(steps)), str(seen))
    return table


def _table(counts: list[SourceCount]) -> Table:
    table = Table("source", "starts", "tries", "samples", "tracks", "dropped because")
    for count in counts:
        drops = sorted(count.drops.items(), key=lambda item: -item[1])
        reasons = "\n".join(f"{number} {why.value}" for why, number in drops)
        figures = (count.starts, count.tries, count.samples, count.tracks)
        table.add_row(name_of(count.kind), *map(str, figures), reasons)
    return table
