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

FRONT = 0
"""Slot of the front camera in the nominal rig."""

_STEEPNESS = 10.0  # Of the schedule. Source: Ganin et al. 2016, section 5.2.2; RAP as well.


def spatial_distance(camera: Tensor, raster: Tensor, valid: Tensor) -> Tensor:
    """Returns the squared distance of paired features, relative to the rasters' own size.

    So the weight of the term does not depend on the scale of the features. The raster side gets no
    gradient.

    Args:
        camera: (B, C, F, h, w).
        raster: The same of the rasters.
        valid: (B, C), 1 where a camera has an image: what is missing is aligned with nothing.
    """
    wanted, mask = raster.detach(), valid[:, :, None, None, None]
    distance = ((camera - wanted).square() * mask).sum()
    return distance / (wanted.square() * mask).sum().clamp(min=1e-6)


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
        """(N, F, h, w) features to (N,) logits of being a camera's."""
        logits: Tensor = self.layers(features.mean(dim=(2, 3)))[:, 0]
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
) -> Tensor:
    """Returns the classifier's loss; through it, camera features learn to look like rasters.

    Raster features are detached, so that the reversal acts on camera features alone, and rasters
    that outnumber the cameras do not outweigh them.

    Args:
        classifier: Learns from the loss itself.
        camera: (B, F, h, w) from `valid_fronts`: a black image is not told apart.
        raster: (N, F, h, w), the same of rasters.
        strength: See `reversal_strength`.
    """
    real = classifier(_Reversal.apply(camera, strength))  # type: ignore[no-untyped-call]
    drawn = classifier(raster.detach())
    logits = torch.cat([real, drawn])
    truth = torch.cat([torch.ones_like(real), torch.zeros_like(drawn)])
    balance = logits.new_tensor(len(drawn) / max(1, len(real)))
    loss = functional.binary_cross_entropy_with_logits(
        logits, truth, pos_weight=balance, reduction="sum"
    )
    return loss / max(1, len(logits))
