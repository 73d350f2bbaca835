"""The refiner: queries decide where they would drive, look there, and think again.

Attributes that meet a published layer one to one carry its name; `rap_training.released_weights`
has the table for the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rap_training.model.published.attention import CameraAttention, QueryAttention
from rap_training.model.published.reference_points import (
    ReferenceLayout,
    project,
    reference_points,
)
from rap_training.model.published.shape import PATCH, PublishedShape

QUERY_MAP_REACH_M = 32.0
"""A pose's metres are also its place in the map of queries: -32..32 m is 0..1. Physically
meaningless, but what the weights were trained with. Source: RAP release, `encoder.py`."""


def perceptron(width: int, hidden: int, out: int) -> nn.Sequential:
    """Three linear layers with normalised hidden ones."""
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.LayerNorm(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.LayerNorm(hidden),
        nn.ReLU(),
        nn.Linear(hidden, out),
    )


@dataclass(frozen=True, slots=True)
class Gaze:
    """Where the queries look in one pass.

    Attributes:
        centers: (B, K * T, 2) in the map of queries.
        places: (B, C, K * T, 16, 2) in the cameras' images.
        seen: (B, C, K * T), 1 where a camera sees a query.
    """

    centers: Tensor
    places: Tensor
    seen: Tensor


class RefinerLayer(nn.Module):
    """Queries look at each other, then at the cameras."""

    def __init__(self, width: int, hidden: int) -> None:
        """Builds the layer."""
        super().__init__()
        self.query_attention = QueryAttention(width)
        self.camera_attention = CameraAttention(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, queries: Tensor, position: Tensor, gaze: Gaze, maps: Tensor) -> Tensor:
        """Updates (B, K, T, D) queries; `position` and `maps` as in the two attentions."""
        queries = self.norms[0](queries + self.query_attention(queries, position, gaze.centers))
        looked = self.camera_attention(queries.flatten(1, 2), maps, gaze.places, gaze.seen)
        queries = self.norms[1](queries + looked.reshape(queries.shape))
        updated: Tensor = self.norms[2](queries + self.feed_forward(queries))
        return updated


class Refiner(nn.Module):
    """One pass of refinement; the same weights serve every pass."""

    def __init__(self, shape: PublishedShape, layout: ReferenceLayout) -> None:
        """Builds the pass."""
        super().__init__()
        self.layout = layout
        self.pose = perceptron(shape.width, shape.hidden, 3)
        self.row_embed = nn.Embedding(shape.proposals, shape.width // 2)
        self.col_embed = nn.Embedding(shape.poses, shape.width // 2)
        self.layers = nn.ModuleList(
            RefinerLayer(shape.width, shape.hidden) for _ in range(shape.layers)
        )

    def maps(self, features: Tensor) -> list[Tensor]:
        """Returns what each layer sees of (B, C, D, h, w) features: the same in every pass."""
        return [x.maps(features) for x in self.modules() if isinstance(x, CameraAttention)]

    def forward(
        self, queries: Tensor, poses: Tensor, maps: list[Tensor], camera_valid: Tensor,
        image_from_ego: Tensor,
    ) -> Tensor:  # fmt: skip
        """Updates the queries.

        Args:
            queries: (B, K, T, D).
            poses: (B, K, T, 3) where they would drive, ego frame.
            maps: As `maps` returns them.
            camera_valid: (B, C), 1 where a camera has features.
            image_from_ego: (B, C, 3, 4) to pixels of the encoder's input image.

        Returns:
            (B, K, T, D).
        """
        position = self._position()
        rows, columns = maps[0].shape[-2:]
        size = poses.new_tensor([columns * PATCH, rows * PATCH])
        gaze = self._gaze(poses.flatten(1, 2), camera_valid, image_from_ego, size)
        for layer, layer_maps in zip(self.layers, maps, strict=True):
            queries = layer(queries, position, gaze, layer_maps)
        return queries

    def _gaze(
        self, poses: Tensor, camera_valid: Tensor, image_from_ego: Tensor, size: Tensor
    ) -> Gaze:
        """Returns where the queries of (B, K * T, 3) poses look."""
        places, seen = project(reference_points(poses, self.layout), image_from_ego, size)
        centers = (poses[..., :2] + QUERY_MAP_REACH_M) / (2.0 * QUERY_MAP_REACH_M)
        return Gaze(centers, places, seen * camera_valid[:, :, None])

    def _position(self) -> Tensor:
        """Returns (K, T, D): first the pose's embedding, then the proposal's."""
        rows, columns = self.row_embed.weight[:, None], self.col_embed.weight[None]
        count, steps = len(self.row_embed.weight), len(self.col_embed.weight)
        halves = [columns.expand(count, -1, -1), rows.expand(-1, steps, -1)]
        return torch.cat(halves, dim=-1)
