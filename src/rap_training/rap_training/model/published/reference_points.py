"""Where a planned pose looks: points on its box, seen through the cameras."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

ReferenceLayout = Literal["released", "corrected"]
"""`released`: corner i stands at height i only, four points that each count four times. That is
what the released code does, and what the released weights were trained with. `corrected`: each
corner at each height, sixteen points."""

HALF_LENGTH_M = 2.588 + 0.25
HALF_WIDTH_M = 1.1485 + 0.1
CENTER_FROM_REAR_AXLE_M = 1.461
HEIGHTS_M = (-2.0, 2.0 / 3.0, 10.0 / 3.0, 6.0)
"""The ego's box with a margin, and four heights evenly from -2 to 6 m. Source: RAP release,
`navsim_config.py`."""

MIN_DEPTH_M = 1e-5
"""Nearer than this a point is behind the camera. Source: RAP release, `encoder.py`."""

PIXEL_SHIFT = 0.3
"""From our pixels (centres at integers) to the release's. It multiplies calibrations of 1920 pixels
by 0.4 as they are, so its centres lie 0.5 (1 - 0.4) further on. Source: RAP release,
`transform3d.py`."""

_CORNERS: dict[ReferenceLayout, list[int]] = {
    "released": [0, 1, 2, 3] * 4,
    "corrected": [corner for corner in range(4) for _ in HEIGHTS_M],
}


def reference_points(poses: Tensor, layout: ReferenceLayout) -> Tensor:
    """Returns the points that poses look at.

    Args:
        poses: (B, Q, 3) x, y, yaw of the rear axle, ego frame, metres and radians.
        layout: Which corner meets which height.

    Returns:
        (B, Q, 16, 3) metres, ego frame.
    """
    x, y, yaw = (poses[..., axis : axis + 1] for axis in range(3))
    front = CENTER_FROM_REAR_AXLE_M + HALF_LENGTH_M
    back = CENTER_FROM_REAR_AXLE_M - HALF_LENGTH_M
    ahead = poses.new_tensor([front, front, back, back])
    left = poses.new_tensor([HALF_WIDTH_M, -HALF_WIDTH_M, -HALF_WIDTH_M, HALF_WIDTH_M])
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    corner_x = (x + cos * ahead - sin * left)[..., _CORNERS[layout]]
    corner_y = (y + sin * ahead + cos * left)[..., _CORNERS[layout]]
    z = poses.new_tensor(HEIGHTS_M * 4).expand_as(corner_x)
    return torch.stack([corner_x, corner_y, z], dim=-1)


def project(points: Tensor, image_from_ego: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Projects points into the cameras.

    Args:
        points: (B, Q, P, 3) metres, ego frame.
        image_from_ego: (B, C, 3, 4) to pixels of the encoder's input image.
        size: (2,) width and height of that image in pixels.

    Returns:
        places: (B, C, Q, P, 2) in the image; 0 and 1 are its outer edges.
        seen: (B, C, Q), 1 where a camera sees at least one of the points.
    """
    homogeneous = functional.pad(points, (0, 1), value=1.0)[:, None]
    projected = homogeneous @ image_from_ego[:, :, None].transpose(-1, -2)
    depth = projected[..., 2:]
    places = (projected[..., :2] / depth.clamp(min=MIN_DEPTH_M) + PIXEL_SHIFT) / size
    inside = (depth[..., 0] > MIN_DEPTH_M) & ((places > 0.0) & (places < 1.0)).all(dim=-1)
    return places, inside.to(points.dtype).amax(dim=-1)
