"""Encoder and planner head together, as they are trained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from rap_training.config import ModelConfig
from rap_training.model.encoder import Encoder
from rap_training.model.head import PlannerHead


@dataclass(frozen=True, slots=True)
class Plan:
    """What the model says about a batch.

    Attributes:
        proposals: One (B, K, T, 3) per refinement pass, ego frame.
        scores: (B, K) logits.
        features: (B, C, F, h, w) the encoder's output.
    """

    proposals: list[Tensor]
    scores: Tensor
    features: Tensor


class RapModel(nn.Module):
    """Images of a rig to scored proposals."""

    def __init__(self, config: ModelConfig) -> None:
        """Builds encoder and head."""
        super().__init__()
        self.encoder = Encoder(config.encoder_channels, config.feature_channels)
        self.head = PlannerHead(config, self.encoder.stride)

    def forward(
        self, images: Tensor, camera_valid: Tensor, image_from_ego: Tensor, history: Tensor,
        command: Tensor,
    ) -> Plan:  # fmt: skip
        """Plans from (B, C, 3, H, W) normalised images; the rest as in `PlannerHead.forward`."""
        features = self.encoder(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        proposals, scores = self.head(features, camera_valid, image_from_ego, history, command)
        return Plan(proposals, scores, features)
