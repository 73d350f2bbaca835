"""Deformable attention as a dense `grid_sample`, and the two ways the planner uses it.

A query does not look at every cell of a map: per head it asks for a few places, takes what lies
there by bilinear interpolation and weighs it (Deformable DETR, arXiv 2010.04159, equation 2).
Attributes carry the names of the published layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

HEADS = 8
QUEUES = 2
"""The attention over queries comes from one over past and present; both are the present here."""

QUEUE_POINTS = 4
CAMERA_POINTS = 16
"""Places per head. Source of all four: RAP release, `bev_refiner.py` and its attentions."""


def split_heads(maps: Tensor) -> Tensor:
    """(N, h, w, D) maps to (N, H, D / H, h, w), one map per head."""
    count, rows, columns, width = maps.shape
    return maps.reshape(count, rows, columns, HEADS, width // HEADS).permute(0, 3, 4, 1, 2)


def sample_heads(maps: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Looks places up in maps and adds them up by weight.

    Args:
        maps: (N, H, E, h, w).
        places: (N, H, Q, P, 2) x along w and y along h; 0 and 1 are the outer edges of the map.
            What lies outside is zero.
        weights: (N, H, Q, P).

    Returns:
        (N, Q, H * E).
    """
    count, heads, channels, _, _ = maps.shape
    # A point behind a camera is projected millions of maps away. One map away is as empty, and
    # does not overflow where a runtime counts cells in integers or in half precision.
    grid = 2.0 * places.clamp(-1.0, 2.0) - 1.0
    sampled = functional.grid_sample(maps.flatten(0, 1), grid.flatten(0, 1), align_corners=False)
    pooled = (sampled * weights.flatten(0, 1)[:, None]).sum(dim=-1)
    return pooled.reshape(count, heads * channels, -1).transpose(1, 2)


class QueryAttention(nn.Module):
    """Attention of the queries over themselves, laid out as a map of proposals by poses."""

    def __init__(self, width: int) -> None:
        """Builds the layer for queries of `width` channels."""
        super().__init__()
        places = HEADS * QUEUES * QUEUE_POINTS
        self.sampling_offsets = nn.Linear(2 * width, 2 * places)
        self.attention_weights = nn.Linear(2 * width, places)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)

    def forward(self, queries: Tensor, position: Tensor, centers: Tensor) -> Tensor:
        """Attends.

        Args:
            queries: (B, K, T, D).
            position: (K, T, D) embeddings of the places in the map.
            centers: (B, K * T, 2) around which each query looks, T by K, 0..1.

        Returns:
            (B, K, T, D).
        """
        batch, rows, columns, _ = queries.shape
        asking = torch.cat([queries, queries + position], dim=-1).flatten(1, 2)
        offsets = self.sampling_offsets(asking).reshape(batch, rows * columns, HEADS, -1, 2)
        logits = self.attention_weights(asking).unflatten(-1, (HEADS, QUEUES, QUEUE_POINTS))
        weights = logits.softmax(dim=-1).flatten(3) / QUEUES
        places = centers[:, :, None, None] + offsets / offsets.new_tensor([columns, rows])
        maps = split_heads(self.value_proj(queries))
        pooled = sample_heads(maps, places.transpose(1, 2), weights.transpose(1, 2))
        attended: Tensor = self.output_proj(pooled).reshape(queries.shape)
        return attended


class CameraAttention(nn.Module):
    """Attention of the queries over the feature maps of the cameras that see them."""

    def __init__(self, width: int) -> None:
        """Builds the layer for queries and features of `width` channels."""
        super().__init__()
        places = HEADS * CAMERA_POINTS
        self.sampling_offsets = nn.Linear(width, 2 * places)
        self.attention_weights = nn.Linear(width, places)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)

    def maps(self, features: Tensor) -> Tensor:
        """(B, C, D, h, w) features to the (B * C, H, D / H, h, w) maps that are looked at."""
        return split_heads(self.value_proj(features.flatten(0, 1).permute(0, 2, 3, 1)))

    def forward(self, queries: Tensor, maps: Tensor, centers: Tensor, seen: Tensor) -> Tensor:
        """Attends.

        Args:
            queries: (B, Q, D).
            maps: As `maps` returns them.
            centers: (B, C, Q, P, 2) the query's reference points in each camera's map.
            seen: (B, C, Q), 1 where a camera sees a query.

        Returns:
            (B, Q, D) from the mean over the cameras that see the query, or from zero where none
            does.
        """
        batch, cameras, count = seen.shape
        offsets = self.sampling_offsets(queries).reshape(batch, 1, count, HEADS, CAMERA_POINTS, 2)
        logits = self.attention_weights(queries).unflatten(-1, (HEADS, CAMERA_POINTS))
        weights = logits.softmax(dim=-1).transpose(1, 2)[:, None].expand(-1, cameras, -1, -1, -1)
        rows, columns = maps.shape[-2:]
        places = centers[:, :, :, None] + offsets / offsets.new_tensor([columns, rows])
        pooled = sample_heads(maps, places.transpose(2, 3).flatten(0, 1), weights.flatten(0, 1))
        total = (pooled.reshape(batch, cameras, count, -1) * seen[..., None]).sum(dim=1)
        mean: Tensor = self.output_proj(total / seen.sum(dim=1).clamp(min=1.0)[..., None])
        return mean
