"""Calibration of predicted scores: a probability of 0.8 should come true four times in five.

Each score's logits are scaled and shifted (Platt 1999) so that they predict best on samples that
the weights were not fitted to, of the same drives. Ranks within one score stay; their weight
against each other in the choice of a proposal gets right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rap_bringup.console import Report, silent
from rap_training.augmentation.mixture import Mixture, MixtureError
from rap_training.config import TrainingConfig
from rap_training.dataset import DriveDataset
from rap_training.losses import likeness
from rap_training.model.rap_model import RapModel
from rap_training.model.scores import SCORE_NAMES
from rap_training.normalization import normalize
from rap_training.teaching import Teacher

SAMPLES = 400
BINS = 10
_BATCH = 16
_FEWEST = 2  # Samples: one to fit to, and one to measure on.
_MIN_SLOPE = 0.05  # A score that tells nothing must not turn round.


class Calibration(nn.Module):
    """Scale and shift of every score's logits; new ones change nothing."""

    slope: Tensor
    shift: Tensor

    def __init__(self) -> None:
        """Builds the identity."""
        super().__init__()
        self.register_buffer("slope", torch.ones(len(SCORE_NAMES)))
        self.register_buffer("shift", torch.zeros(len(SCORE_NAMES)))

    def forward(self, logits: Tensor) -> Tensor:
        """(..., S) logits to calibrated ones."""
        return logits * self.slope + self.shift


@dataclass(frozen=True, slots=True)
class Judged:
    """Predictions and what came true.

    Attributes:
        logits: (N, K, S) of the proposals of samples, order `SCORE_NAMES`.
        truth: (N, K, S) 0 to 1.
    """

    logits: Tensor
    truth: Tensor

    def halves(self) -> tuple[Judged, Judged]:
        """Returns every other sample, and the rest: to fit to the one and measure on the other."""
        first, second = (Judged(self.logits[k::2], self.truth[k::2]) for k in range(2))
        return first, second


@torch.no_grad()
def judged(
    model: RapModel, mixture: Mixture, config: TrainingConfig, report: Report = silent
) -> Judged:
    """Lets a model score its proposals on samples beyond those of its training, and checks.

    It looks at what it was trained on: rasters, or camera images where it has seen no rasters.
    Samples with camera images would be those of the training again, so rasters come without. What
    has seen camera images alone is judged on images that it knows.

    Args:
        model: In evaluation mode.
        mixture: What it was trained on, or other logs.
        config: Of its training.
        report: Called with the share that is done.

    Raises:
        MixtureError: If not even two samples can be scored: the maps have no roads.
    """
    first = config.optimizer.steps * config.optimizer.batch_size
    every = config.loss.model_copy(update={"scored_share": 1.0})
    data, seen = config.data, "images"
    if data.rasters:
        cameras = data.cameras.model_copy(update={"share": 0.0})
        data, seen = data.model_copy(update={"cameras": cameras}), "rasters"
    config = config.model_copy(update={"loss": every, "data": data})
    dataset = DriveDataset(mixture, config, first + SAMPLES)
    teacher = Teacher(config.model.dt_s, config.loss.room_m)
    logits, truth = [], []
    for start in range(first, first + SAMPLES, _BATCH):
        batch = dataset.training_batch(range(start, min(start + _BATCH, first + SAMPLES)))
        report(min(1.0, (start + _BATCH - first) / SAMPLES))
        known = [row for row, scene in enumerate(batch.scenes) if scene is not None]
        scenes = [scene for scene in batch.scenes if scene is not None]
        if not scenes:
            continue
        rows = {name: value[known] for name, value in batch.tensors.items()}
        status = (rows[name] for name in _STATUS)
        plan = model(normalize(rows[seen]), *status)
        taught = teacher.lessons(scenes, plan.proposals[-1]).scores
        near = likeness(plan.proposals[-1], rows["target"], config.loss.likeness_scale_m)
        logits.append(plan.scores)
        truth.append(torch.cat([taught, near[..., None]], dim=-1))
    if sum(map(len, logits)) < _FEWEST:
        raise MixtureError("no two samples can be scored: hardly any drivable area is known")
    return Judged(torch.cat(logits), torch.cat(truth))


_STATUS = ("camera_valid", "image_from_ego", "history", "command", "route")


def fitted(found: Judged) -> Calibration:
    """Returns the calibration that predicts best."""
    calibration = Calibration()
    # An exponential and no clamp, whose gradient would be lost below the least slope.
    growth = (calibration.slope - _MIN_SLOPE).log().requires_grad_()
    shift = calibration.shift.clone().requires_grad_()
    solver = torch.optim.LBFGS([growth, shift], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        scaled = found.logits * (_MIN_SLOPE + growth.exp()) + shift
        value = functional.binary_cross_entropy_with_logits(scaled, found.truth)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    calibration.slope.copy_(_MIN_SLOPE + growth.detach().exp())
    calibration.shift.copy_(shift.detach())
    return calibration


def calibration_errors(found: Judged, calibration: Calibration) -> dict[str, float]:
    """Returns the expected calibration error of every score: mean |predicted - true| over bins."""
    predicted = torch.sigmoid(calibration(found.logits)).flatten(0, -2)
    truth = found.truth.flatten(0, -2)
    bins = (predicted * BINS).long().clamp(max=BINS - 1)
    errors: dict[str, float] = {}
    for column, name in enumerate(SCORE_NAMES):
        sums = torch.zeros(BINS).index_add_(
            0, bins[:, column], predicted[:, column] - truth[:, column]
        )
        errors[name] = float(sums.abs().sum() / len(predicted))
    return errors
