"""The loss of one batch, and everything that is trained for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rap_training.alignment import (
    DomainClassifier,
    domain_loss,
    reversal_strength,
    spatial_distance,
    valid_fronts,
)
from rap_training.config import TrainingConfig
from rap_training.dataset import Batch
from rap_training.losses import imitation_loss, likeness, probability_loss, shares_of
from rap_training.model.rap_model import Plan, RapModel
from rap_training.model.scores import TAUGHT
from rap_training.normalization import normalize
from rap_training.teaching import Auxiliaries, Teacher, auxiliary_loss, cell_loss


class Losses(NamedTuple):
    """The weighted terms of one step; their sum is what is minimised.

    No frozen dataclass: Fabric has to put hooks on the tensors of what a module returns.
    """

    imitation: Tensor
    likeness: Tensor
    scores: Tensor
    auxiliary: Tensor
    cells: Tensor
    spatial: Tensor
    domain: Tensor

    @property
    def total(self) -> Tensor:
        """The sum."""
        return torch.stack(tuple(self)).sum()


class Outcome(NamedTuple):
    """What a batch gives.

    Attributes:
        losses: Their sum is what is minimised.
        domain_accuracy: See `domain_loss`; NaN without that loss.
    """

    losses: Losses
    domain_accuracy: Tensor


@dataclass(frozen=True, slots=True)
class _Views:
    """What the model looks at: rasters of all samples, then the images of those that have some.

    Attributes:
        images: (N, C, H, W, 3) uint8.
        rows: (N,) the sample of each.
        drawn: How many are rasters.
    """

    images: Tensor
    rows: Tensor
    drawn: int


class Objective(nn.Module):
    """The model with what is trained beside it and left behind afterwards."""

    def __init__(self, config: TrainingConfig) -> None:
        """Builds everything."""
        super().__init__()
        self.config = config
        self.model = RapModel(config.model)
        self.auxiliaries = Auxiliaries(config.model)
        self.classifier = DomainClassifier(
            config.model.feature_channels, config.loss.alignment.hidden
        )
        self._teacher = Teacher(config.model.dt_s, config.loss.room_m)

    def trained_state(self) -> dict[str, Tensor]:
        """Returns the tensors by name, without those of a frozen backbone."""
        model = {f"model.{name}": x for name, x in self.model.trained_state().items()}
        return model | {
            name: x for name, x in self.state_dict().items() if not name.startswith("model.")
        }

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Loads what `trained_state` returned.

        Raises:
            RuntimeError: If tensors are missing, unknown or of another shape.
        """
        kept = self.state_dict()
        for name in self.trained_state():
            del kept[name]
        self.load_state_dict({**kept, **state})

    def forward(self, batch: Batch, progress: float) -> Outcome:
        """Computes the losses of a batch at a share of the training."""
        tensors, config = batch.tensors, self.config
        views = self._views(tensors)
        valid = tensors["camera_valid"][views.rows]
        status = (
            tensors[name][views.rows] for name in ("image_from_ego", "history", "command", "route")
        )
        # One pass for both kinds: batch statistics are those of the mix, as in the end.
        plan: Plan = self.model(normalize(views.images), valid, *status)
        target = tensors["target"][views.rows]
        shares = shares_of(tensors["loss_weight"][views.rows])
        near = likeness(plan.proposals[-1], target, config.loss.likeness_scale_m)
        scores, auxiliary = self._taught(batch, views, plan)
        spatial, domain, accuracy = self._aligned(plan.features, tensors, views, progress)
        losses = Losses(
            imitation=imitation_loss(plan.proposals, target, shares, config.loss),
            likeness=config.loss.likeness * probability_loss(plan.scores[..., -1], near, shares),
            scores=scores,
            auxiliary=auxiliary,
            cells=self._in_cells(plan.features, tensors["cells"][views.rows], valid),
            spatial=spatial,
            domain=domain,
        )
        return Outcome(losses, accuracy)

    def _views(self, tensors: dict[str, Tensor]) -> _Views:
        count = len(tensors["rasters"])
        rows = torch.arange(count, device=tensors["rasters"].device)
        photographed = rows[tensors["has_images"] > 0]
        if not len(photographed):
            return _Views(tensors["rasters"], rows, count)
        rasters, images = tensors["rasters"], tensors["images"][photographed]
        # Where no camera fills a slot, black would count in the statistics of batches.
        taken = (images.flatten(2).amax(dim=2) > 0)[..., None, None, None]
        images = torch.where(taken, images, rasters[photographed])
        if not self.config.data.rasters:
            return _Views(images, photographed, 0)
        return _Views(torch.cat([rasters, images]), torch.cat([rows, photographed]), count)

    def _taught(self, batch: Batch, views: _Views, plan: Plan) -> tuple[Tensor, Tensor]:
        """Returns the losses of what the teacher says about the proposals of some samples."""
        known = torch.tensor([scene is not None for scene in batch.scenes], dtype=torch.bool)
        known = torch.cat([known, known.new_zeros(len(batch.tensors["target"]) - len(known))])
        chosen = torch.nonzero(known.to(views.rows.device)[views.rows])[:, 0]
        if not len(chosen):
            return plan.scores.new_zeros(()), plan.scores.new_zeros(())
        scenes = [batch.scenes[row] for row in views.rows[chosen].tolist()]
        lessons = self._teacher.lessons(
            [scene for scene in scenes if scene is not None], plan.proposals[-1][chosen]
        )
        loss = probability_loss(plan.scores[chosen][..., : len(TAUGHT)], lessons.scores)
        auxiliary = auxiliary_loss(
            self.auxiliaries(plan.embeddings[chosen]), lessons, self.config.loss
        )
        return self.config.loss.scores * loss, auxiliary

    def _in_cells(self, features: Tensor, cells: Tensor, valid: Tensor) -> Tensor:
        if not self.config.loss.cells:
            return features.new_zeros(())
        rows, columns = cells.shape[-2:]
        logits = self.auxiliaries.in_cells(features.flatten(0, 1), (rows, columns))
        loss = cell_loss(logits, cells.flatten(0, 1), valid.flatten())
        return self.config.loss.cells * loss

    def _aligned(
        self, features: Tensor, tensors: dict[str, Tensor], views: _Views, progress: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the losses of both alignment terms, and the accuracy of the classifier."""
        weights = self.config.loss.alignment
        spatial = domain = features.new_zeros(())
        accuracy = features.new_full((), math.nan)
        if 0 < views.drawn < len(features):
            features = features.float()  # Squares of halves overflow.
            raster, camera = features[: views.drawn], features[views.drawn :]
            paired = views.rows[views.drawn :]
            valid = tensors["camera_valid"][paired]
            if weights.spatial:
                spatial = weights.spatial * spatial_distance(
                    camera, raster[paired], valid, weights.spatial_scale
                )
            if weights.domain:
                loss, accuracy = domain_loss(
                    self.classifier,
                    valid_fronts(camera, valid),
                    valid_fronts(raster, tensors["camera_valid"]),
                    reversal_strength(progress, weights.reversal),
                )
                domain = weights.domain * loss
        return spatial, domain, accuracy
