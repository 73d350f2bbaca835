"""Raster-to-real alignment: camera features are pulled to raster features, never the reverse.

Source: RAP section 3.3. A spatial term pulls paired features together cell by cell; a global term
makes pooled features of both kinds alike to a classifier that tries to tell them apart.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rap_training.config import SpatialScale

FRONT = 0
"""Slot of the front camera in the nominal rig."""

CLASSIFIER_RATE = 4.0
"""Learning rate of the classifier, relative to the model's: what it has not learned to tell apart,
the features need not make alike."""

_VARIANCE_FLOOR = 1e-5  # That of batch normalisation.
_STEEPNESS = 10.0  # Of the schedule. Source: Ganin et al. 2016, section 5.2.2; RAP as well.


def spatial_distance(
    camera: Tensor, raster: Tensor, valid: Tensor, scale: SpatialScale = "relative"
) -> Tensor:
    """Returns the mean squared distance of paired features. The raster side gets no gradient.

    Relative, it is divided by the variance of the raster features about the mean of each channel,
    so that its weight does not depend on their scale, and 1 is what these means would give: four
    fifths of the features' squares are the means', and say nothing of the scene.

    Args:
        camera: (B, C, F, h, w).
        raster: The same of the rasters.
        valid: (B, C), 1 where a camera has an image: what is missing is aligned with nothing.
        scale: `absolute` as published.
    """
    wanted, mask = raster.detach(), valid[:, :, None, None, None]
    images, cells = valid.sum().clamp(min=1.0), wanted[0, 0, 0].numel()
    distance = ((camera - wanted).square() * mask).sum()
    if scale == "absolute":
        return distance / (images * cells * wanted.shape[2])
    mean = (wanted * mask).sum(dim=(0, 1, 3, 4), keepdim=True) / (images * cells)
    return distance / ((wanted - mean).square() * mask).sum().clamp(min=1e-6)


def reversal_strength(progress: float, largest: float) -> float:
    """Returns how strongly gradients are reversed: nothing at first, `largest` in the end.

    Args:
        progress: Share of the training that is done.
        largest: In the end.
    """
    return largest * (2.0 / (1.0 + math.exp(-_STEEPNESS * progress)) - 1.0)


class _Reversal(torch.autograd.Function):
    """Passes features on, and their gradients turned round."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:  # noqa: ANN401
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return -ctx.strength * gradient, None


class DomainClassifier(nn.Module):
    """Tells camera features from raster features by their mean over the front camera."""

    def __init__(self, channels: int, hidden: int) -> None:
        """Builds the classifier for features of some channels."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """(N, F, h, w) features of both kinds to (N,) logits of being a camera's.

        They are standardised, both kinds together: most of their size is a mean that all have in
        common. Of features that a new linear probe tells apart without a mistake, the classifier
        then knows 94 percent after 20 steps; of the features as they are, 68 percent after 100. The
        statistics get no gradient: kinds that are told apart entirely set them alone, and would
        feel nothing.
        """
        pooled = features.mean(dim=(2, 3))
        variance, mean = torch.var_mean(pooled.detach(), dim=0, correction=0)
        standardised = (pooled - mean) * (variance + _VARIANCE_FLOOR).rsqrt()
        logits: Tensor = self.layers(standardised)[:, 0]
        return logits


def valid_fronts(features: Tensor, valid: Tensor) -> Tensor:
    """Returns the front camera's features where it is not missing.

    Args:
        features: (N, C, F, h, w), front camera first.
        valid: (N, C), 1 where a camera has an image.
    """
    return features[valid[:, FRONT] > 0, FRONT]


def domain_loss(
    classifier: DomainClassifier, camera: Tensor, raster: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    """Returns the classifier's loss; through it, camera features learn to look like rasters.

    Raster features are detached, so that the reversal acts on camera features alone, and rasters
    that outnumber the cameras do not outweigh them.

    Args:
        classifier: Learns from the loss itself.
        camera: (B, F, h, w) from `valid_fronts`: a black image is not told apart.
        raster: (N, F, h, w), the same of rasters.
        strength: See `reversal_strength`.

    Returns:
        loss: Nothing if one of the kinds is missing.
        accuracy: Mean share of both kinds that the classifier knows, 0.5 by chance; NaN if one is
            missing.
    """
    if not len(camera) or not len(raster):
        return camera.new_zeros(()), camera.new_full((), math.nan)
    reversed_: Tensor = _Reversal.apply(camera, strength)  # type: ignore[no-untyped-call]
    logits = classifier(torch.cat([reversed_, raster.detach()]))
    truth = torch.cat([logits.new_ones(len(camera)), logits.new_zeros(len(raster))])
    loss = functional.binary_cross_entropy_with_logits(
        logits, truth, pos_weight=logits.new_tensor(len(raster) / len(camera))
    )
    known = ((logits > 0.0) == (truth > 0.0)).float()
    accuracy = 0.5 * (known[: len(camera)].mean() + known[len(camera) :].mean())
    return loss, accuracy
