"""Where poses are beside the route: the route's counterpart of looking at features."""

from __future__ import annotations

import torch
from torch import Tensor

from rap_training.model.precision import in_single_precision

OFFSET_CHANNELS = 3

_LATERAL_SCALE_M = 2.0
_MAX_LATERAL = 5.0  # In scales: farther off, how far does not matter.
_FAR_M2 = 1e6  # Of what is not valid.


@in_single_precision
def route_offsets(poses: Tensor, route: Tensor) -> Tensor:
    """Returns how far to the left of the route poses are, and how much they turn from it.

    Args:
        poses: (B, K, T, 3) x, y, yaw, ego frame.
        route: (B, R, 3) x, y, valid, the first point beside the ego; R >= 3.

    Returns:
        (B, K, T, 3) lateral offset over 2 m, sine of the turn, valid; zero without a route.
    """
    starts, directions, lengths = _pieces(route)
    points, yaw = poses[..., :2].flatten(1, 2), poses[..., 2].flatten(1)
    along, lateral = _beside(points, starts, directions)
    past = (along - lengths[:, None]).clamp(min=0.0) + (-along).clamp(min=0.0)
    missing = (1.0 - route[:, None, 1:, 2]) * _FAR_M2
    # A soft choice of the nearest piece: a hard one would jump, and with it the plan.
    weights = torch.softmax(-(lateral * lateral + past * past + missing), dim=-1)
    valid = route[:, :1, 2].expand(-1, points.shape[1])
    left = ((lateral * weights).sum(-1) / _LATERAL_SCALE_M).clamp(-_MAX_LATERAL, _MAX_LATERAL)
    x, y = (weights @ directions).unbind(-1)
    turn = torch.sin(yaw) * x - torch.cos(yaw) * y
    return torch.stack([left * valid, turn * valid, valid], dim=-1).reshape(poses.shape)


def _beside(points: Tensor, starts: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Returns how far (B, P, 2) points are along and left of (B, N, 2) pieces, each (B, P, N).

    Both are linear in the points, so one matrix product gives them.
    """
    x, y = directions.unbind(-1)
    axes = torch.cat([directions, torch.stack([-y, x], dim=-1)], dim=1)
    origin = (torch.cat([starts, starts], dim=1) * axes).sum(-1)
    along, lateral = (points @ axes.transpose(1, 2) - origin[:, None]).chunk(2, dim=-1)
    return along, lateral


def _pieces(route: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (B, R - 1, 2) starts and directions and (B, R - 1) lengths between points."""
    starts = route[:, :-1, :2]
    steps = route[:, 1:, :2] - starts
    lengths = steps.norm(dim=-1).clamp(min=1e-3)
    return starts, steps / lengths[..., None], lengths
