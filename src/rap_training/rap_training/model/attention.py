"""Attention pieces with static shapes, written in plain operations so that they export cleanly."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rap_training.model.precision import in_single_precision


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
            (B, Q, D); the same whatever the keys are where none may be looked at.
        """
        batch, count, width = queries.shape
        q = self._split(self.query(queries))
        key, value = self.key_value(keys).chunk(2, dim=-1)
        logits = q @ self._split(key).transpose(-1, -2) * (width // self.heads) ** -0.5
        if mask is not None:
            logits = logits + (mask[:, None, None, :] - 1.0) * 1e4
        attended = torch.softmax(logits, dim=-1) @ self._split(value)
        if mask is not None:  # What is taken from every key alike, the softmax does not see.
            attended = attended * mask.amax(dim=1)[:, None, None, None]
        out: Tensor = self.out(attended.transpose(1, 2).reshape(batch, count, width))
        return out

    def _split(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        return x.reshape(batch, count, self.heads, width // self.heads).transpose(1, 2)


@in_single_precision
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
    to_grid = _grid_from_pixels(columns * stride, rows * stride, points)
    projection = to_grid @ image_from_ego
    projected = projection[..., :3] @ points.transpose(1, 2)[:, None] + projection[..., 3:]
    distance = projected[:, :, 2:]
    grid = projected[:, :, :2] / distance.clamp(min=0.1)
    seen = (distance > 0.1) & (grid.abs().amax(dim=2, keepdim=True) < 1.0)
    weight = seen.to(points.dtype) * camera_valid[:, :, None, None]
    weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1.0)
    grid = grid.clamp(-2.0, 2.0).transpose(2, 3)
    sampled = functional.grid_sample(
        features.reshape(batch * cameras, depth, rows, columns),
        grid.reshape(batch * cameras, 1, -1, 2),
        align_corners=False,
    )
    return (sampled.reshape(batch, cameras, depth, -1) * weight).sum(dim=1).transpose(1, 2)


def _grid_from_pixels(width: int, height: int, like: Tensor) -> Tensor:
    """Returns the (3, 3) map from homogeneous pixels to what grid_sample takes.

    Pixel centres are at integers; grid_sample's -1 and 1 are the outer edges of the image.
    """
    return like.new_tensor(
        [
            [2.0 / width, 0.0, 1.0 / width - 1.0],
            [0.0, 2.0 / height, 1.0 / height - 1.0],
            [0.0, 0.0, 1.0],
        ]
    )


@in_single_precision
def viewing_rays(image_from_ego: Tensor, rows: int, columns: int, stride: int) -> Tensor:
    """Directions in which the feature cells look: their position encoding.

    The 3x3 part of the projection is inverted by its cofactors, since a general inverse does not
    export.

    Args:
        image_from_ego: (B, C, 3, 4).
        rows: h.
        columns: w.
        stride: Input pixels per feature cell.

    Returns:
        (B, C, h, w, 3) unit vectors, ego frame.
    """
    v, u = torch.meshgrid(
        (torch.arange(rows, device=image_from_ego.device) + 0.5) * stride - 0.5,
        (torch.arange(columns, device=image_from_ego.device) + 0.5) * stride - 0.5,
        indexing="ij",
    )
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).to(image_from_ego.dtype)
    rays: Tensor = pixels.reshape(1, 1, rows * columns, 3) @ _cofactors(image_from_ego[..., :3])
    rays = rays / rays.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return rays.reshape(*image_from_ego.shape[:2], rows, columns, 3)


_NEXT, _LAST = (1, 2, 0), (2, 0, 1)


def _cofactors(matrix: Tensor) -> Tensor:
    """Returns the cofactors of (B, C, 3, 3) matrices, with few operations in the exported graph."""
    flat = matrix.flatten(2)

    def entries(rows: tuple[int, ...], columns: tuple[int, ...]) -> Tensor:
        index = [3 * row + column for row in rows for column in columns]
        return flat.index_select(2, torch.tensor(index, device=flat.device))

    diagonal = entries(_NEXT, _NEXT) * entries(_LAST, _LAST)
    cofactors: Tensor = diagonal - entries(_NEXT, _LAST) * entries(_LAST, _NEXT)
    return cofactors.reshape(matrix.shape)
