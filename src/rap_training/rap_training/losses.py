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


def imitation_loss(proposals: list[Tensor], target: Tensor, early_weight: float) -> Tensor:
    """Winner takes all: only the proposal nearest to the driven future is pulled towards it.

    Source: RAP section 3; earlier passes count `early_weight` times the one after them.
    """
    total = proposals[0].new_zeros(())
    for passed in proposals:
        total = early_weight * total + pose_error(passed, target).min(dim=1).values.mean()
    return total


def score_loss(proposals: Tensor, scores: Tensor, target: Tensor, temperature_m: float) -> Tensor:
    """Cross entropy of the scores against how near each proposal came.

    The target is a softmax over the negative mean displacement, so near ties share the mass.
    """
    displacement = (proposals[..., :2] - target[:, None, :, :2]).norm(dim=-1).mean(-1)
    wanted = torch.softmax(-displacement.detach() / temperature_m, dim=-1)
    return functional.cross_entropy(scores, wanted)


def alignment_loss(camera_features: Tensor, raster_features: Tensor) -> Tensor:
    """Spatial alignment: camera features are pulled onto the raster's, never the reverse.

    Source: RAP section 3.3, stop-gradient on the raster side; relative to the rasters' own size so
    that the weight does not depend on the scale of the features.
    """
    wanted = raster_features.detach()
    return functional.mse_loss(camera_features, wanted) / wanted.square().mean().clamp(min=1e-6)


def planning_loss(
    proposals: list[Tensor], scores: Tensor, target: Tensor, config: LossConfig
) -> Tensor:
    """Imitation plus score loss of one batch."""
    imitation = imitation_loss(proposals, target, config.early_refinements)
    score = score_loss(proposals[-1], scores, target, config.score_temperature_m)
    return imitation + config.score * score
