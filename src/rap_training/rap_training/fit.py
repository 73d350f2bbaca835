"""Fits the model, with progress, a CSV log and checkpoints that a killed run resumes from."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rap_bringup.console import Report, silent
from rap_training.augmentation.mixture import Mixture, name_of
from rap_training.augmentation.situation import SourceKind
from rap_training.config import TrainingConfig
from rap_training.dataset import DriveDataset, load_batches
from rap_training.losses import alignment_loss, planning_loss
from rap_training.model.rap_model import RapModel
from rap_training.normalization import normalize
from rap_training.whole_file import remove_partial, whole_file

CHECKPOINT_EVERY = 100
WEIGHTS_NAME = "model.safetensors"
STATE_NAME = "optimizer.pt"
CONFIG_NAME = "config.json"
LOG_NAME = "log.csv"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the text names the file and the reason in one line."""


@dataclass(frozen=True, slots=True)
class Losses:
    """The terms of one step."""

    total: Tensor
    raster: Tensor
    camera: Tensor
    alignment: Tensor


def fit(
    mixture: Mixture,
    config: TrainingConfig,
    out: Path,
    *,
    workers: int,
    report: Report = silent,
) -> Path:
    """Fits a model, or continues where an earlier run in `out` stopped.

    Args:
        mixture: What to learn from.
        config: The training.
        out: Checkpoint folder; `model.safetensors`, `config.json` and `log.csv` end up there.
        workers: Loader processes; any number gives the same weights.
        report: Called with the share that is done and the loss.

    Returns:
        `out`.

    Raises:
        CheckpointError: If `out` holds a run of another configuration.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.optimizer.seed)
    model = RapModel(config.model)
    optimizer, schedule = _optimizer(model, config)
    done = _resume(out, config, model, optimizer, schedule)
    steps = config.optimizer.steps
    for step, batch in enumerate(_batches(mixture, config, done, workers), start=done + 1):
        losses = training_step(model, batch, config)
        optimizer.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.gradient_clip)
        optimizer.step()
        schedule.step()
        _log(out / LOG_NAME, step, losses, batch)
        report(step / steps, f", loss {losses.total.item():.3f}")
        if step % CHECKPOINT_EVERY == 0 or step == steps:
            _save(out, step, model, optimizer, schedule)
    return out


def training_step(model: RapModel, batch: dict[str, Tensor], config: TrainingConfig) -> Losses:
    """Computes the losses of one batch: rasters, and camera images where there are any."""
    shared = batch["image_from_ego"], batch["history"], batch["command"]
    valid = torch.ones(batch["rasters"].shape[:2])
    raster = model(normalize(batch["rasters"]), valid, *shared)
    aims = batch["target"], batch["loss_weight"]
    raster_loss = planning_loss(raster.proposals, raster.scores, *aims, config.loss)
    has = batch["has_images"] > 0
    if not has.any():
        zero = raster_loss.new_zeros(())
        return Losses(raster_loss, raster_loss, zero, zero)
    camera = model(normalize(batch["images"][has]), valid[has], *(x[has] for x in shared))
    aims = batch["target"][has], batch["loss_weight"][has]
    camera_loss = planning_loss(camera.proposals, camera.scores, *aims, config.loss)
    alignment = alignment_loss(camera.features, raster.features[has])
    share = has.float().mean()
    total = raster_loss + share * (camera_loss + config.loss.alignment * alignment)
    return Losses(total, raster_loss, camera_loss, alignment)


def load_model(checkpoint: Path) -> tuple[RapModel, TrainingConfig]:
    """Reads the model of a checkpoint folder, in evaluation mode.

    Raises:
        CheckpointError: If a file is missing or does not fit the configuration.
    """
    try:
        config = TrainingConfig.model_validate_json((checkpoint / CONFIG_NAME).read_text())
        model = RapModel(config.model)
        model.load_state_dict(load_file(checkpoint / WEIGHTS_NAME))
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{checkpoint}: not a usable checkpoint: {reason}") from error
    return model.eval(), config


def _optimizer(
    model: RapModel, config: TrainingConfig
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    settings = config.optimizer
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    return optimizer, schedule


def _batches(
    mixture: Mixture, config: TrainingConfig, done: int, workers: int
) -> Iterator[dict[str, Tensor]]:
    size = config.optimizer.batch_size
    dataset = DriveDataset(mixture, config, config.optimizer.steps * size)
    yield from load_batches(dataset, size, workers=workers, first=done)


def _resume(
    out: Path,
    config: TrainingConfig,
    model: RapModel,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> int:
    """Returns how many steps an earlier run in `out` made, after loading its state."""
    config_path, state_path = out / CONFIG_NAME, out / STATE_NAME
    remove_partial(state_path)
    if not state_path.exists():
        config_path.write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return 0
    if json.loads(config_path.read_text()) != json.loads(config.model_dump_json()):
        raise CheckpointError(f"{out}: holds a run of another configuration; choose another --out")
    state = torch.load(state_path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    done: int = state["step"]
    return done


def _save(
    out: Path,
    step: int,
    model: RapModel,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Writes the checkpoint; a kill in between leaves the previous one whole."""
    save_file(model.state_dict(), out / WEIGHTS_NAME)
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    with whole_file(out / STATE_NAME) as file:
        torch.save(state, file)


def _log(path: Path, step: int, losses: Losses, batch: dict[str, Tensor]) -> None:
    """Appends a line: the losses, the samples of each source, and the draws dropped for them."""
    terms = (losses.total, losses.raster, losses.camera, losses.alignment)
    samples = torch.bincount(batch["source"], minlength=len(SourceKind)).tolist()
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            sources = [name_of(kind) for kind in SourceKind]
            writer.writerow(["step", "total", "raster", "camera", "alignment", *sources, "dropped"])
        losses_said = [f"{term.item():.5f}" for term in terms]
        writer.writerow([step, *losses_said, *samples, int(batch["drops"].sum())])
