"""Where poses are beside the route: the route's counterpart of looking at features."""

from __future__ import annotations

import torch
from torch import Tensor

OFFSET_CHANNELS = 3

_LATERAL_SCALE_M = 2.0
_MAX_LATERAL = 5.0  # In scales: farther off, how far does not matter.
_FAR_M2 = 1e6  # Of what is not valid.


def route_offsets(poses: Tensor, route: Tensor) -> Tensor:
    """Returns how far to the left of the route poses are, and how much they turn from it.

    Args:
        poses: (B, K, T, 3) x, y, yaw, ego frame.
        route: (B, R, 3) x, y, valid; R >= 2.

    Returns:
        (B, K, T, 3) lateral offset over 2 m, sine of the turn, valid; zero without a route.
    """
    starts, directions, lengths = _pieces(route)
    away = poses[..., None, :2] - starts[:, None, None]
    along = (away * directions[:, None, None]).sum(-1)
    x, y = directions[:, None, None].unbind(-1)
    lateral = x * away[..., 1] - y * away[..., 0]
    past = (along - lengths[:, None, None]).clamp(min=0.0) + (-along).clamp(min=0.0)
    missing = (1.0 - route[..., 2])[:, None, None] * _FAR_M2
    # A soft choice of the nearest piece: a hard one would jump, and with it the plan.
    weights = torch.softmax(-(lateral.square() + past.square() + missing), dim=-1)
    valid = route[:, :1, None, 2].expand(-1, *poses.shape[1:3])
    left = ((lateral * weights).sum(-1) / _LATERAL_SCALE_M).clamp(-_MAX_LATERAL, _MAX_LATERAL)
    turn = torch.sin(poses[..., 2]) * (x * weights).sum(-1)
    turn = turn - torch.cos(poses[..., 2]) * (y * weights).sum(-1)
    return torch.stack([left * valid, turn * valid, valid], dim=-1)


def _pieces(route: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (B, R, 2) starts and directions and (B, R) lengths of the pieces that end at points.

    The first piece leads to the first point from where the second one came from.
    """
    points = route[..., :2]
    behind = 2.0 * points[:, :1] - points[:, 1:2]
    starts = torch.cat([behind, points[:, :-1]], dim=1)
    steps = points - starts
    lengths = steps.norm(dim=-1).clamp(min=1e-3)
    return starts, steps / lengths[..., None], lengths
