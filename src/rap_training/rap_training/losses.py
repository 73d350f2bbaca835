"""What the model is fitted to."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rap_training.config import LossConfig

HEADING_WEIGHT_MPRAD = 2.0
"""Metres that a radian of heading error counts: half a wheelbase's displacement, roughly."""


def pose_error(proposals: Tensor, target: Tensor) -> Tensor:
    """Mean L1 distance of proposals to the driven future, heading wrapped.

    Args:
        proposals: (B, K, T, 3).
        target: (B, T, 3).

    Returns:
        (B, K) metres.
    """
    delta = proposals - target[:, None]
    turn = torch.atan2(torch.sin(delta[..., 2]), torch.cos(delta[..., 2]))
    position = delta[..., :2].abs().sum(-1)
    return (position + HEADING_WEIGHT_MPRAD * turn.abs()).mean(-1)


def imitation_loss(
    proposals: list[Tensor],
    target: Tensor,
    weights: Tensor,
    early_weight: float,
    others_weight: float,
) -> Tensor:
    """Winner takes nearly all: the nearest proposal is pulled towards the driven future.

    Source: RAP section 3; earlier passes count `early_weight` times the one after them, and every
    sample as much as its (B,) weight says. All proposals together are pulled with `others_weight`,
    so that those that never win stay drivable.
    """
    total = proposals[0].new_zeros(())
    for passed in proposals:
        error = weights[:, None] * pose_error(passed, target)
        nearest = error.min(dim=1).values.mean()
        total = early_weight * total + nearest + others_weight * error.mean()
    return total


def score_loss(proposals: Tensor, scores: Tensor, target: Tensor, scale_m: float) -> Tensor:
    """Cross entropy of each score against how well its own proposal did.

    A proposal's quality is exp(-(mean displacement - that of the nearest) / scale), so a score is
    an expected quality, as in RAP, where it is an expected driving score. The chance of being the
    nearest proposal would not do: among many alike proposals each has little of it, and a lone odd
    one would be chosen.
    """
    displacement = (proposals[..., :2] - target[:, None, :, :2]).norm(dim=-1).mean(-1)
    behind = displacement - displacement.min(dim=1, keepdim=True).values
    quality = torch.exp(-behind.detach() / scale_m)
    return functional.binary_cross_entropy_with_logits(scores, quality)


def alignment_loss(camera_features: Tensor, raster_features: Tensor) -> Tensor:
    """Spatial alignment: camera features are pulled onto the raster's, never the reverse.

    Source: RAP section 3.3, stop-gradient on the raster side; relative to the rasters' own size so
    that the weight does not depend on the scale of the features.
    """
    wanted = raster_features.detach()
    return functional.mse_loss(camera_features, wanted) / wanted.square().mean().clamp(min=1e-6)


def planning_loss(
    proposals: list[Tensor], scores: Tensor, target: Tensor, weights: Tensor, config: LossConfig
) -> Tensor:
    """Imitation plus score loss of one batch; `weights` (B,) are those of the imitation."""
    imitation = imitation_loss(
        proposals, target, weights, config.early_refinements, config.other_proposals
    )
    score = score_loss(proposals[-1], scores, target, config.score_scale_m)
    return imitation + config.score * score
