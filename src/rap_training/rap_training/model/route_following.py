"""Driving along the route: what proposals do where the network adds nothing.

Pure pursuit steers from every pose towards a point of the route ahead. Source: Coulter 1992,
"Implementation of the pure pursuit path tracking algorithm", section 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOOK_AHEAD_M = 3.5
"""Shortest distance to that point: a bend of 8 m radius is cut by 0.2 m."""

LOOK_AHEAD_S = 0.7
"""The distance grows with speed, so that steps of half a second are stable at any: the first takes
half of an offset, the second nearly all of the rest."""

MAX_CURVATURE_RADPM = 0.2
"""Of the pursuit: the tightest turn of a car."""


def pursued_points(route: Tensor, spacing_m: float, along_m: Tensor, speed_mps: Tensor) -> Tensor:
    """Returns the points of a route to steer towards.

    Args:
        route: (B, R, 3) x, y, valid, `spacing_m` apart, the first one that far from the ego.
        spacing_m: Between the points.
        along_m: (B, K, T) how far each pose is along the route.
        speed_mps: (B, K, T) speed there.

    Returns:
        (B, K, T, 2) ego frame; the last known point where the route ends before.
    """
    ahead_m = (LOOK_AHEAD_S * speed_mps).clamp(min=LOOK_AHEAD_M)
    known = route[..., 2].sum(dim=-1)[:, None, None]
    place = torch.minimum((along_m + ahead_m) / spacing_m, known)
    beside_ego = 2.0 * route[:, :1, :2] - route[:, 1:2, :2]
    points = torch.cat([beside_ego, route[..., :2]], dim=1)
    number = torch.arange(points.shape[1], dtype=place.dtype, device=place.device)
    shares = torch.relu(1.0 - torch.abs(place[..., None] - number))  # Of the points on both sides.
    return (shares.flatten(1, 2) @ points).reshape(*place.shape, 2)


def pursue(targets: Tensor, valid: Tensor, lengths_m: Tensor, turns: Tensor) -> Tensor:
    """Drives step by step towards points.

    Args:
        targets: (B, K, T, 2) to steer towards in each step, ego frame.
        valid: (B,) 1 where there is a route; elsewhere `turns` is all there is.
        lengths_m: (B, K, T) driven in each step.
        turns: (B, K, T) curvature that is added, 1/m.

    Returns:
        (B, K, T, 3) x, y, yaw after each step.
    """
    x = y = yaw = torch.zeros_like(lengths_m[..., 0])
    poses = []
    for step in range(lengths_m.shape[-1]):
        cos, sin = torch.cos(yaw), torch.sin(yaw)
        to_x, to_y = targets[..., step, 0] - x, targets[..., step, 1] - y
        ahead, left = cos * to_x + sin * to_y, cos * to_y - sin * to_x
        curvature = 2.0 * left / (ahead * ahead + left * left).clamp(min=1.0)
        # Past the end of the route the point is behind: straight on from there.
        curvature = curvature * (ahead - 0.5).clamp(0.0, 1.0) * valid[:, None]
        curvature = curvature.clamp(-MAX_CURVATURE_RADPM, MAX_CURVATURE_RADPM)
        length = lengths_m[..., step]
        turn = length * (curvature + turns[..., step])
        x = x + length * torch.cos(yaw + 0.5 * turn)
        y = y + length * torch.sin(yaw + 0.5 * turn)
        yaw = yaw + turn
        poses.append(torch.stack([x, y, yaw], dim=-1))
    return torch.stack(poses, dim=-2)
