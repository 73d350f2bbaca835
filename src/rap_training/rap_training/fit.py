"""Fits the model, with progress, a CSV log and checkpoints that a killed run resumes from."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy
from safetensors import safe_open
from safetensors.torch import load_file, save

from rap_bringup.console import Report, silent
from rap_training.alignment import CLASSIFIER_RATE
from rap_training.augmentation.mixture import Mixture, name_of
from rap_training.augmentation.situation import SourceKind
from rap_training.cells import CELL_PX
from rap_training.config import ConfigError, OptimizerConfig, Precision, TrainingConfig
from rap_training.dataset import Batch, DriveDataset, load_batches
from rap_training.image_store import ImageStore
from rap_training.model.head import TOKEN_CELLS
from rap_training.model.rap_model import RapModel
from rap_training.objective import Losses, Objective, Outcome
from rap_training.whole_file import remove_partial, whole_file

CHECKPOINT_EVERY = 100
WEIGHTS_NAME = "model.safetensors"
STATE_NAME = "training_state.pt"
CONFIG_NAME = "config.json"
ORIGIN_NAME = "origin.json"
LOG_NAME = "log.csv"
IMAGES_NAME = "images"
_STEP = "step"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the text names the file and the reason in one line."""


class DivergenceError(ValueError):
    """A training whose loss or gradients are no numbers any more."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a training runs on.

    Attributes:
        accelerator: Kind of devices.
        devices: How many; each takes its share of every batch.
        workers: Loader processes per device; any number gives the same weights.
        images: Folder in which camera images are kept; by default in the run's own folder.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    workers: int = 1
    images: Path | None = None


def fit(
    mixture: Mixture,
    config: TrainingConfig,
    out: Path,
    origin: Mapping[str, Any],
    *,
    machine: Machine | None = None,
    report: Report = silent,
) -> Path:
    """Fits a model, or continues where an earlier run in `out` stopped.

    Args:
        mixture: What to learn from.
        config: The training.
        out: Checkpoint folder; `model.safetensors`, `config.json`, `origin.json` and `log.csv` end
            up there.
        origin: What the mixture draws from, see `origin_of`.
        machine: What to run on; by default one device of the best kind.
        report: Called with the share that is done and the loss.

    Returns:
        `out`.

    Raises:
        CheckpointError: If `out` holds a run of another configuration, of other logs or a damaged
            one, there are more devices than samples in a batch, or no such devices.
        ConfigError: If the backbone cannot divide the images into cells.
        DivergenceError: If the loss or gradients are no numbers any more.
    """
    machine = machine or Machine()
    if machine.devices > config.optimizer.batch_size:
        raise CheckpointError(
            f"{machine.devices} devices cannot share batches of {config.optimizer.batch_size}"
        )
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, config, origin)
    run = _Run(config, out, machine)
    if run.fabric.is_global_zero:
        _drop_undone(out / LOG_NAME, run.done)
    for step, batch in enumerate(run.batches(mixture), start=run.done + 1):
        outcome = run.step(batch, step / config.optimizer.steps)
        if run.fabric.is_global_zero:
            _log(out / LOG_NAME, step, outcome, batch)
            if step % CHECKPOINT_EVERY == 0 or step == config.optimizer.steps:
                run.save(step)
            report(step / config.optimizer.steps, f", loss {outcome.losses.total.item():.3f}")
    return out


class _HalfInside(MixedPrecision):
    """Mixed precision of the arithmetic alone: what comes in stays as exact as it is."""

    def convert_input(self, data: Any) -> Any:  # noqa: ANN401
        """Leaves calibrations in pixels and poses in metres as they are."""
        return data


class _Run:
    """A training that is under way.

    Attributes:
        done: Steps that earlier runs made.
    """

    def __init__(self, config: TrainingConfig, out: Path, machine: Machine) -> None:
        """Builds the model, and takes up the state that an earlier run left in `out`."""
        self._config, self._out, self._machine = config, out, machine
        self.fabric = _fabric(machine, config.optimizer.precision)
        self.fabric.launch()
        if self.fabric.device.type == "cpu":
            # A second thread hardly helps, and with one torch 2.13 corrupts memory on processors
            # with AVX-512 ("free(): invalid next size" in the backward pass of narrow networks).
            torch.set_num_threads(1)
        torch.manual_seed(config.optimizer.seed)
        self._objective = Objective(config)
        _check_cells(self._objective.model, config)
        self._objective.model.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer, self._schedule = _optimizer(self._objective, config.optimizer)
        self._module, self._optimizer = self.fabric.setup(self._objective, optimizer)
        # Only now: what an optimiser loads goes where its parameters are.
        self.done = self._resume()

    def batches(self, mixture: Mixture) -> Any:  # noqa: ANN401
        """Returns the batches that are still to be seen, on the device."""
        size = self._config.optimizer.batch_size
        images = ImageStore(self._machine.images or self._out / IMAGES_NAME)
        length = self._config.optimizer.steps * size
        dataset = DriveDataset(mixture, self._config, length, images)
        share = self.fabric.global_rank, self.fabric.world_size
        return load_batches(
            dataset, size, workers=self._machine.workers, first=self.done, share=share
        )

    def step(self, batch: Batch, progress: float) -> Outcome:
        """Makes one optimiser step at a share of the training.

        Raises:
            DivergenceError: If the loss or gradients are no numbers any more.
        """
        batch = Batch(self.fabric.to_device(batch.tensors), batch.scenes)
        outcome: Outcome = self._module(batch, progress)
        self._optimizer.zero_grad()
        self.fabric.backward(outcome.losses.total)
        settings = self._config.optimizer
        norm = self.fabric.clip_gradients(
            self._module,
            self._optimizer,
            max_norm=settings.gradient_clip,
            error_if_nonfinite=False,
        )
        # In float16 gradients are scaled up until they overflow; that step is left out.
        judged = outcome.losses.total.detach() if settings.precision == "16-mixed" else norm
        if not math.isfinite(float(judged)):  # type: ignore[arg-type]
            raise DivergenceError(
                f"{self._out}: step {self._schedule.last_epoch + 1}: loss or gradients are no "
                "numbers any more; a smaller optimizer.learning_rate may help"
            )
        self._optimizer.step()
        self._schedule.step()
        return outcome

    def save(self, step: int) -> None:
        """Writes the checkpoint; a kill in between leaves the previous one whole."""
        trained = self._objective.model.trained_state()
        with whole_file(self._out / WEIGHTS_NAME) as file:
            whole = {name: x.contiguous() for name, x in trained.items()}
            file.write(save(whole, {_STEP: str(step)}))
        state = {
            "step": step,
            "objective": self._objective.trained_state(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        with whole_file(self._out / STATE_NAME) as file:
            torch.save(state, file)

    def _resume(self) -> int:
        """Returns how many steps an earlier run made, after loading its state."""
        path = self._out / STATE_NAME
        remove_partial(path)
        if not path.exists():
            return 0
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self._objective.load_trained_state(state["objective"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._schedule.load_state_dict(state["schedule"])
            self.fabric.strategy.precision.load_state_dict(state["precision"])
            done: int = state["step"]
        except Exception as error:  # a damaged file may break its reader in any way
            raise CheckpointError(f"{path}: cannot be resumed: {_one_line(error)}") from error
        return done


def _check_cells(model: RapModel, config: TrainingConfig) -> None:
    """Refuses images that the backbone cannot divide into a token's cells each way.

    Raises:
        ConfigError: If so.
    """
    stride, size = model.encoder.stride, config.data.image_size
    if any(side % stride or side < TOKEN_CELLS * stride for side in size):
        name = config.model.backbone.name
        raise ConfigError(
            f"data.image_size: {size[0]}x{size[1]}: the backbone {name} needs multiples of "
            f"{stride}, {TOKEN_CELLS * stride} at least"
        )
    if config.loss.cells and any(side % CELL_PX for side in size):
        raise ConfigError(
            f"data.image_size: {size[0]}x{size[1]}: loss.cells needs multiples of {CELL_PX}; "
            "set it to 0 for others"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _fabric(machine: Machine, precision: Precision) -> Fabric:
    cuda = machine.accelerator != "cpu" and torch.cuda.is_available()
    half = None
    if precision != "32-true":
        half = _HalfInside(precision, "cuda" if cuda else "cpu")
    try:
        return Fabric(
            accelerator=machine.accelerator,
            devices=machine.devices,
            # What has no camera images has nothing to align, and no scene no score.
            strategy=DDPStrategy(find_unused_parameters=True) if machine.devices > 1 else "auto",
            plugins=half,
        )
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{machine.devices} {machine.accelerator} devices: {_one_line(error)}"
        ) from error


def load_model(checkpoint: Path) -> tuple[RapModel, TrainingConfig]:
    """Reads the model of a checkpoint folder, in evaluation mode.

    Raises:
        CheckpointError: If a file is missing or does not fit the configuration.
    """
    try:
        config = TrainingConfig.model_validate_json((checkpoint / CONFIG_NAME).read_text())
        model = RapModel(config.model, initialised=False)
        model.load_trained_state(load_file(checkpoint / WEIGHTS_NAME))
    except Exception as error:  # a damaged file may break its reader in any way
        raise CheckpointError(
            f"{checkpoint}: not a usable checkpoint: {_one_line(error)}"
        ) from error
    return model.eval(), config


def steps_made(checkpoint: Path) -> int:
    """Returns how many steps the weights of a checkpoint folder have seen.

    Raises:
        CheckpointError: If the file does not say so.
    """
    path = checkpoint / WEIGHTS_NAME
    try:
        with safe_open(path, "pt") as file:
            return int(file.metadata()[_STEP])
    except Exception as error:  # a damaged file may break its reader in any way
        raise CheckpointError(f"{path}: does not say its step: {_one_line(error)}") from error


def check_origin(checkpoint: Path, origin: Mapping[str, Any]) -> None:
    """Makes sure that a checkpoint was trained on these logs.

    Raises:
        CheckpointError: If it was not, or does not say on which.
    """
    path = checkpoint / ORIGIN_NAME
    if not path.exists():
        raise CheckpointError(
            f"{path}: is missing: an earlier version did not note its logs; go on with that one, "
            "or train anew"
        )
    if _read_json(path) != _as_json(origin):
        raise CheckpointError(
            f"{checkpoint}: was trained on other logs, with another preset or another camera "
            "simulator"
        )


def _claim(out: Path, config: TrainingConfig, origin: Mapping[str, Any]) -> None:
    """Notes in a new run's folder what is trained on what; refuses a run of something else."""
    wanted = config.model_dump(mode="json")
    if not (out / STATE_NAME).exists():
        _write_json(out / CONFIG_NAME, wanted)
        _write_json(out / ORIGIN_NAME, origin)
        (out / LOG_NAME).unlink(missing_ok=True)
        return
    if _read_json(out / CONFIG_NAME) != _as_json(wanted):
        raise CheckpointError(f"{out}: holds a run of another configuration; choose another --out")
    check_origin(out, origin)


def _as_json(content: Mapping[str, Any]) -> Any:  # noqa: ANN401
    return json.loads(json.dumps(content))


def _read_json(path: Path) -> Any:  # noqa: ANN401
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {_one_line(error)}") from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _optimizer(
    objective: Objective, settings: OptimizerConfig
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    learned = {name: x for name, x in objective.named_parameters() if x.requires_grad}
    own = [x for name, x in learned.items() if name.startswith("classifier.")]
    rest = [x for name, x in learned.items() if not name.startswith("classifier.")]
    rates = [settings.learning_rate, CLASSIFIER_RATE * settings.learning_rate]
    optimizer = torch.optim.AdamW(
        [{"params": x, "lr": rate} for x, rate in zip((rest, own), rates, strict=True)],
        weight_decay=settings.weight_decay,
    )
    if settings.schedule == "one_cycle":
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            rates,
            total_steps=settings.steps + 1,
            pct_start=settings.warmup_share,
        )
    warmup = max(1, round(settings.warmup_share * settings.steps))
    return optimizer, torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 1.0 / warmup, total_iters=warmup),
            torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, max(1, settings.steps - warmup), 0.1 * settings.learning_rate
            ),
        ],
        [warmup],
    )


def _drop_undone(log: Path, done: int) -> None:
    """Removes the lines of steps after the last checkpoint, which are made again."""
    if log.exists():
        lines = log.read_bytes().splitlines(keepends=True)
        with whole_file(log) as file:
            file.writelines(lines[: done + 1])


def _log(path: Path, step: int, outcome: Outcome, batch: Batch) -> None:
    """Appends a line: losses, accuracy, the samples of each source, and the draws dropped for them.

    With several devices, they are those of the first one's share.
    """
    samples = torch.bincount(batch.tensors["source"].cpu(), minlength=len(SourceKind)).tolist()
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            sources = [name_of(kind) for kind in SourceKind]
            terms = ["total", *Losses._fields, "domain_accuracy"]
            writer.writerow(["step", *terms, *sources, "dropped"])
        losses, accuracy = outcome
        said = [f"{term.item():.5f}" for term in (losses.total, *losses, accuracy)]
        writer.writerow([step, *said, *samples, int(batch.tensors["drops"].sum())])
