"""What the model is fitted to, but for the alignment of features."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.nn import functional

from rap_training.config import LossConfig

HEADING_WEIGHT_MPRAD = 2.0
"""Metres that a radian of heading error counts: half a wheelbase's displacement, roughly."""


def pose_error(proposals: Tensor, target: Tensor) -> Tensor:
    """Mean L1 distance of proposals to the driven future, wrapped heading in metres as well.

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


def shares_of(weights: Tensor) -> Tensor:
    """How much each sample counts in a mean: its weight over the sum of all.

    Devices share a batch and average their gradients, so the sum is that of all devices, by device.

    Args:
        weights: (B,), not negative. All devices must ask for theirs at the same time.

    Returns:
        (B,) which add up to 1 over a single device.
    """
    total = weights.sum()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
        total = total / distributed.get_world_size()
    return weights / total.clamp(min=1e-6)


def imitation_loss(
    proposals: list[Tensor], target: Tensor, shares: Tensor, config: LossConfig
) -> Tensor:
    """Winner takes nearly all: the nearest proposal is pulled towards the driven future.

    Source: RAP section 3; earlier passes count `early_refinements` times the one after them, and
    every sample as much as its (B,) share says. All proposals together are pulled with
    `other_proposals`, so that those that never win stay drivable.
    """
    total = proposals[0].new_zeros(())
    for passed in proposals:
        error = pose_error(passed, target)
        pulled = error.min(dim=1).values + config.other_proposals * error.mean(dim=1)
        total = config.early_refinements * total + (shares * pulled).sum()
    return total


def likeness(proposals: Tensor, target: Tensor, scale_m: float) -> Tensor:
    """How near each proposal comes to what was driven: 1 for the nearest, less for the others.

    It is exp(-(mean displacement - that of the nearest) / scale): an expected quality, as the
    driving score is. The chance of being the nearest would not do: among many alike proposals each
    has little of it, and a lone odd one would be chosen.

    Args:
        proposals: (B, K, T, 3).
        target: (B, T, 3).
        scale_m: Displacement at which it has fallen to 37 percent.

    Returns:
        (B, K) without gradient.
    """
    apart = (proposals.detach()[..., :2] - target[:, None, :, :2]).norm(dim=-1).mean(-1)
    return torch.exp((apart.min(dim=1, keepdim=True).values - apart) / scale_m)


def probability_loss(logits: Tensor, truth: Tensor, shares: Tensor | None = None) -> Tensor:
    """Mean cross entropy of predicted scores.

    Args:
        logits: (B, ...).
        truth: The same shape, 0 to 1.
        shares: (B,) of the rows, by default all alike.
    """
    if shares is None:
        return functional.binary_cross_entropy_with_logits(logits, truth)
    loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (loss.flatten(1).mean(1) * shares).sum()
