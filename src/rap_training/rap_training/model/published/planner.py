"""The published planner: features of four cameras, motion and command in, scored proposals out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rap_training.model.published.reference_points import ReferenceLayout
from rap_training.model.published.refiner import Refiner, perceptron
from rap_training.model.published.shape import PublishedShape

SUB_SCORES = 6
"""Of them only the last one, the total, was trained. Source: RAP release, `navsim_config.py`."""


def ego_vector(history: Tensor, command: Tensor, history_dt_s: float) -> Tensor:
    """Returns what the release knows of the ego: pose, velocity, acceleration and command.

    The pose is that of the ego in its own frame, so zero. The acceleration is the change of the
    velocity vector between the last two rows, seen in the ego frame of now; it is zero where the
    history has only one row.

    Args:
        history: (B, S, 7) `HISTORY_COLUMNS`, S >= 2.
        command: (B, 4) one-hot: left, straight, right, unknown.
        history_dt_s: Time between rows.

    Returns:
        (B, 11).
    """
    before, now = history[:, -2], history[:, -1]
    cos, sin = torch.cos(before[:, 2:3]), torch.sin(before[:, 2:3])
    forward, left = before[:, 3:4], before[:, 4:5]
    velocity_before = torch.cat([cos * forward - sin * left, sin * forward + cos * left], dim=1)
    velocity = now[:, 3:5]
    acceleration = (velocity - velocity_before) / history_dt_s * before[:, 6:7]
    return torch.cat([torch.zeros_like(now[:, :3]), velocity, acceleration, command], dim=1)


class PublishedPlanner(nn.Module):
    """The planner network of RAP-DINO.

    The embeddings of the cameras are added here and not in the encoder, where the release has
    them: the encoder then serves any number of images in any order, as when a camera is missing.
    """

    def __init__(self, shape: PublishedShape, layout: ReferenceLayout, history_dt_s: float) -> None:
        """Builds the planner.

        Args:
            shape: Sizes.
            layout: Of the reference points.
            history_dt_s: Time between the rows of the ego history.
        """
        super().__init__()
        self.shape, self.history_dt_s = shape, history_dt_s
        self.hist_encoding = nn.Linear(11, shape.width)
        self.init_feature = nn.Embedding(shape.proposals * shape.poses, shape.width)
        self.camera_embeddings = nn.Parameter(torch.zeros(shape.cameras, shape.width))
        self.refiner = Refiner(shape, layout)
        self.score = perceptron(shape.width, shape.hidden, SUB_SCORES)

    def forward(
        self, features: Tensor, camera_valid: Tensor, image_from_ego: Tensor, history: Tensor,
        command: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Plans.

        Args:
            features: (B, C, D, h, w) of the encoder; cameras back, front, left, right.
            camera_valid: (B, C), 1 where a camera has features.
            image_from_ego: (B, C, 3, 4) to pixels of the encoder's input image.
            history: (B, S, 7) `HISTORY_COLUMNS`, the last row now.
            command: (B, 4) one-hot: left, straight, right, unknown.

        Returns:
            proposals: (B, K, T, 3) x, y, yaw of the rear axle, ego frame.
            scores: (B, K) logits of the total score.
        """
        shape = self.shape
        ego = self.hist_encoding(ego_vector(history, command, self.history_dt_s))
        queries = self.init_feature.weight + ego[:, None]
        queries = queries.unflatten(1, (shape.proposals, shape.poses))
        maps = self.refiner.maps(features + self.camera_embeddings[:, :, None, None])
        poses = self.refiner.pose(queries)
        queries = self.refiner(queries, poses, maps, camera_valid, image_from_ego)
        # What the last update adds is for the score alone: no proposals are read from it.
        for _ in range(shape.passes - 1):
            poses = self.refiner.pose(queries)
            queries = self.refiner(queries, poses, maps, camera_valid, image_from_ego)
        scores = self.score(queries.amax(dim=2))[..., -1]
        return poses, scores
