"""The commands of `rap-train`; importing this needs the offline tools."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from rap_bringup.console import progress_bar
from rap_evaluation.logs.drive_log import DriveLog, open_logs
from rap_evaluation.open_loop import LogDriver, OpenLoopReport, open_loop_report
from rap_inference.bundle import Bundle
from rap_training.augmentation.mixture import mixture_of, name_of
from rap_training.calibration import (
    Calibration,
    Judged,
    calibration_errors,
    fitted,
    judged,
)
from rap_training.config import TrainingConfig, load_config
from rap_training.data_commands import augment_command, bench_data_command, sources_command
from rap_training.edit_commands import edits_command
from rap_training.experiment_commands import experiment_command
from rap_training.export import export_bundle, licenses_of, put_in_place, with_metrics
from rap_training.fit import Machine, check_origin, fit, load_model, steps_made
from rap_training.model.rap_model import RapModel
from rap_training.origin import origin_of
from rap_training.parity import check_parity
from rap_training.released_bundle import export_released
from rap_training.released_weights import import_released
from rap_training.show_commands import show_command
from rap_training.training_logs import check_scorable, open_training_logs


class Accelerator(str, Enum):
    """Kinds of devices."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


app = typer.Typer(
    help="Trains planners on logs and exports them as bundles.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.command("experiment")(experiment_command)
app.command("augment")(augment_command)
app.command("bench-data")(bench_data_command)
app.command("show")(show_command)
app.command("sources")(sources_command)
app.command("edits")(edits_command)


@app.command("fit")
def fit_command(
    logs: Annotated[Path, typer.Option(help="Folder of logs; docs/logs.md says of what.")],
    out: Annotated[Path, typer.Option(help="Checkpoint folder; a run in it is resumed.")],
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Training YAML, or a preset: tiny, small, resnet34, dinov3, default or "
            "unaugmented; tiny if nothing is said."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes per device.")] = 1,
    accelerator: Annotated[Accelerator, typer.Option(help="Kind of devices.")] = Accelerator.auto,
    devices: Annotated[int, typer.Option(min=1, help="How many; they share every batch.")] = 1,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of camera images to keep and share; default: OUT/images."),
    ] = None,
) -> None:
    """Fits a model to the logs.

    Examples:
    rap-train fit --logs out/logs/train --out out/fit/tiny
    rap-train fit --config mine.yaml --logs out/logs/train --out out/fit/mine --devices 4
    """
    settings = load_config(config) if config else TrainingConfig()
    opened = open_training_logs(logs)
    check_scorable(opened, settings.loss)
    mixture = mixture_of(opened, settings.data.sources, settings.model)
    with progress_bar("fitting") as report:
        machine = Machine(accelerator.value, devices, workers, images)
        fit(mixture, settings, out, origin_of(opened, settings), machine=machine, report=report)
    starts = ", ".join(f"{len(s)} {name_of(s.kind)}" for s in mixture.sources)
    typer.echo(f"checkpoint: {out} (starts in the logs: {starts})")


@app.command("export")
def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder made by `rap-train fit`.")],
    out: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    logs: Annotated[Path, typer.Option(help="The training logs, named in the model card.")],
    validation: Annotated[
        Path | None, typer.Option(help="Logs of validation maps, measured for the model card.")
    ] = None,
    made_by: Annotated[
        str, typer.Option(help="The command that makes this bundle, for the model card.")
    ] = "rap-train fit, rap-train export",
) -> None:
    """Exports a checkpoint as a bundle of ONNX files.

    Example: rap-train export out/fit/mine --out models/mine --logs out/logs/train
    --validation out/logs/validate
    """
    model, config = load_model(checkpoint)
    if (made := steps_made(checkpoint)) < config.optimizer.steps:
        typer.echo(f"{checkpoint}: a training at step {made} of {config.optimizer.steps}", err=True)
        optimizer = config.optimizer.model_copy(update={"steps": made})
        config = config.model_copy(update={"optimizer": optimizer})
    training = open_training_logs(logs)
    check_origin(checkpoint, origin_of(training, config))
    out.parent.mkdir(parents=True, exist_ok=True)
    # What turns out to be wrong does not replace a bundle that is there.
    with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        bundle = _checked_bundle(model, config, training, Path(folder), made_by)
        metrics = dict(bundle.manifest.metrics)
        if validation:
            with progress_bar("measuring") as report:
                measured = open_loop_report(LogDriver(bundle), open_logs(validation), report=report)
            metrics |= open_loop_figures(measured)
        bundle = put_in_place(with_metrics(bundle, metrics), out)
    typer.echo(f"bundle: {bundle.path}")
    for name, value in bundle.manifest.metrics.items():
        typer.echo(f"  {name}: {value:g}")


def _checked_bundle(
    model: RapModel, config: TrainingConfig, training: list[DriveLog], out: Path, made_by: str
) -> Bundle:
    """Exports with calibrated scores, and checks that the files say what the model says."""
    mixture = mixture_of(training, config.data.sources, config.model)
    calibration, figures = Calibration(), {}
    if config.loss.scored_share:
        with progress_bar("calibrating") as report:
            to_fit, to_measure = judged(model, mixture, config, report).halves()
        calibration = fitted(to_fit)
        figures = calibration_figures(to_measure, calibration)
    maps = tuple(sorted({log.map.name for log in training}))
    bundle = export_bundle(
        model,
        config,
        out,
        maps=maps,
        data_license=licenses_of(training),
        command=made_by,
        metrics={},
        calibration=calibration,
    )
    difference = check_parity(bundle, model, calibration, mixture, config)
    return with_metrics(bundle, {"onnx_difference": difference} | figures)


class ReferencePoints(str, Enum):
    """Which of the vehicle's corners the published planner looks from."""

    released = "released"
    corrected = "corrected"


@app.command("export-released")
def export_released_command(
    checkpoint: Annotated[Path, typer.Argument(help="The official rap_dino checkpoint (.ckpt).")],
    out: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    reference_points: Annotated[
        ReferencePoints, typer.Option(help="Their layout; `released` is what it was trained with.")
    ] = ReferencePoints.released,
) -> None:
    """Exports the official RAP checkpoint, which you must have, as a bundle.

    Example: rap-train export-released RAP_DINO_navsim.ckpt --out models/rap_dino
    """
    model = import_released(checkpoint, reference_layout=reference_points.value)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        made = export_released(model, Path(folder), "rap-train export-released")
        bundle = put_in_place(made, out)
    typer.echo(f"bundle: {bundle.path} ({len(model.left_out)} tensors of training left out)")


def calibration_figures(found: Judged, calibration: Calibration) -> dict[str, float]:
    """Returns the mean calibration error of all scores as they were, and as the bundle has them."""
    errors = {"raw": calibration_errors(found, Calibration()).values(),
              "calibrated": calibration_errors(found, calibration).values()}  # fmt: skip
    return {f"calibration_error_{name}": round(fmean(of), 4) for name, of in errors.items()}


def open_loop_figures(report: OpenLoopReport) -> dict[str, float]:
    """Returns the figures of a report under names that say what they were measured on."""
    measured = report.as_dict().items()
    return {f"open_loop_{name}": round(value, 3) for name, value in measured if value is not None}
