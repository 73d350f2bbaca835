"""Encoder and planner head together, as they are trained."""

from __future__ import annotations

from collections.abc import Mapping
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
        scores: (B, K, S) logits, order `scores.SCORE_NAMES`.
        embeddings: (B, K, E) of the proposals.
        features: (B, C, F, h, w) the encoder's output.
    """

    proposals: list[Tensor]
    scores: Tensor
    embeddings: Tensor
    features: Tensor


class RapModel(nn.Module):
    """Images of a rig to scored proposals."""

    def __init__(self, config: ModelConfig, *, initialised: bool = True) -> None:
        """Builds encoder and head.

        Args:
            config: Their shapes.
            initialised: Whether a trained backbone starts with its pretrained weights; a checkpoint
                that is loaded afterwards has all of them.
        """
        super().__init__()
        backbone = config.backbone
        from_folder = backbone.name == "dinov3_vith16plus"  # It needs the folder for its shape.
        if not (initialised or backbone.frozen or from_folder):
            backbone = backbone.model_copy(update={"weights": "random"})
        self.encoder = Encoder(config.model_copy(update={"backbone": backbone}))
        self.head = PlannerHead(config, self.encoder.stride)
        self._left_out = "encoder.backbone." if backbone.frozen else None

    def trained_state(self) -> dict[str, Tensor]:
        """Returns the tensors by name, without those of a frozen backbone."""
        return {name: x for name, x in self.state_dict().items() if self._is_trained(name)}

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Loads what `trained_state` returned.

        Raises:
            RuntimeError: If tensors are missing, unknown or of another shape.
        """
        kept = {name: x for name, x in self.state_dict().items() if not self._is_trained(name)}
        self.load_state_dict({**kept, **state})

    def _is_trained(self, name: str) -> bool:
        return self._left_out is None or not name.startswith(self._left_out)

    def forward(  # noqa: PLR0917 - the inputs of the exported network
        self, images: Tensor, camera_valid: Tensor, image_from_ego: Tensor, history: Tensor,
        command: Tensor, route: Tensor,
    ) -> Plan:  # fmt: skip
        """Plans from (B, C, 3, H, W) normalised images; the rest as in `PlannerHead.forward`."""
        features = self.encoder(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        out = self.head(features, camera_valid, image_from_ego, history, command, route)
        return Plan(out.proposals, out.scores, out.embeddings, features)
