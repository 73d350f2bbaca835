"""Attention pieces with static shapes, written in plain operations so that they export cleanly."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention of queries over keys with an optional key mask."""

    def __init__(self, width: int, heads: int) -> None:
        """Builds the projections; `width` is a multiple of `heads`."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attends.

        Args:
            queries: (B, Q, D).
            keys: (B, M, D), also the values.
            mask: (B, M), 1 where a key may be looked at, 0 where not.

        Returns:
            (B, Q, D).
        """
        batch, count, width = queries.shape
        q = self._split(self.query(queries))
        key, value = self.key_value(keys).chunk(2, dim=-1)
        logits = q @ self._split(key).transpose(-1, -2) * (width // self.heads) ** -0.5
        if mask is not None:
            logits = logits + (mask[:, None, None, :] - 1.0) * 1e4
        attended = torch.softmax(logits, dim=-1) @ self._split(value)
        out: Tensor = self.out(attended.transpose(1, 2).reshape(batch, count, width))
        return out

    def _split(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        return x.reshape(batch, count, self.heads, width // self.heads).transpose(1, 2)


def sample_cameras(
    features: Tensor, camera_valid: Tensor, image_from_ego: Tensor, points: Tensor, stride: int
) -> Tensor:
    """Looks 3D points up in the feature maps of every camera that sees them.

    Args:
        features: (B, C, D, h, w) feature maps.
        camera_valid: (B, C), 1 where a camera has features.
        image_from_ego: (B, C, 3, 4) projection to pixels of the encoder's input image.
        points: (B, P, 3) metres, ego frame.
        stride: Input pixels per feature cell.

    Returns:
        (B, P, D) mean over the valid cameras that see the point; zero where none does.
    """
    batch, cameras, depth, rows, columns = features.shape
    homogeneous = functional.pad(points, (0, 1), value=1.0)
    projected = image_from_ego @ homogeneous.transpose(1, 2)[:, None]
    distance = projected[:, :, 2]
    pixels = projected[:, :, :2] / distance.clamp(min=0.1)[:, :, None]
    size = pixels.new_tensor([columns * stride, rows * stride])[:, None]
    # Pixel centres are at integers; grid_sample's -1 and 1 are the outer edges of the image.
    grid = (2.0 * pixels + 1.0) / size - 1.0
    seen = (distance > 0.1) & (grid.abs() < 1.0).all(dim=2)
    weight = seen.to(points.dtype) * camera_valid[:, :, None]
    grid = grid.clamp(-2.0, 2.0).transpose(2, 3)
    sampled = functional.grid_sample(
        features.reshape(batch * cameras, depth, rows, columns),
        grid.reshape(batch * cameras, 1, -1, 2),
        align_corners=False,
    )
    sampled = sampled.reshape(batch, cameras, depth, -1)
    total = (sampled * weight[:, :, None]).sum(dim=1)
    return (total / weight.sum(dim=1)[:, None].clamp(min=1.0)).transpose(1, 2)


def viewing_rays(image_from_ego: Tensor, rows: int, columns: int, stride: int) -> Tensor:
    """Directions in which the feature cells look: their position encoding.

    The 3x3 part of the projection is inverted by its adjugate, since a general inverse does not
    export.

    Args:
        image_from_ego: (B, C, 3, 4).
        rows: h.
        columns: w.
        stride: Input pixels per feature cell.

    Returns:
        (B, C, h, w, 3) unit vectors, ego frame.
    """
    a, b, c = image_from_ego[:, :, 0, :3], image_from_ego[:, :, 1, :3], image_from_ego[:, :, 2, :3]
    adjugate = torch.stack([_cross(b, c), _cross(c, a), _cross(a, b)], dim=-1)
    v, u = torch.meshgrid(
        (torch.arange(rows, device=image_from_ego.device) + 0.5) * stride - 0.5,
        (torch.arange(columns, device=image_from_ego.device) + 0.5) * stride - 0.5,
        indexing="ij",
    )
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).to(image_from_ego.dtype)
    rays: Tensor = pixels.reshape(1, 1, rows * columns, 3) @ adjugate.transpose(-1, -2)
    rays = rays / rays.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return rays.reshape(*image_from_ego.shape[:2], rows, columns, 3)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product of (..., 3) vectors; torch's own has no ONNX form."""
    return torch.stack(
        [
            a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1],
            a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2],
            a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0],
        ],
        dim=-1,
    )
