"""The published encoder: a frozen DINOv3, two convolutions and an embedding."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rap_training.model.published.shape import PATCH

HEAD_CHANNELS = 64
"""Of each attention head of every DINOv3 vision transformer."""


@dataclass(frozen=True, slots=True)
class BackboneShape:
    """What the tensors of a checkpoint decide.

    Attributes:
        width: Channels; 1280 in ViT-H+.
        hidden: Channels inside the gated perceptrons; 5120 in ViT-H+.
        layers: 32 in ViT-H+.
        registers: Register tokens; 4 in ViT-H+.
    """

    width: int
    hidden: int
    layers: int
    registers: int


def dinov3(shape: BackboneShape) -> nn.Module:
    """Builds a DINOv3 vision transformer of the gated kind, without weights.

    Args:
        shape: Sizes.

    Returns:
        The model, its parameters on torch's meta device.

    Raises:
        ImportError: If `transformers` is not installed.
    """
    transformers = importlib.import_module("transformers")
    config = transformers.DINOv3ViTConfig(
        patch_size=PATCH,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // HEAD_CHANNELS,
        num_register_tokens=shape.registers,
        hidden_act="silu",
        use_gated_mlp=True,
    )
    with torch.device("meta"):
        backbone: nn.Module = transformers.DINOv3ViTModel(config)
    # The frequencies of its position encoding are no weights: they are computed when it is built.
    backbone.rope_embeddings = type(backbone.rope_embeddings)(config)
    return backbone


class PublishedEncoder(nn.Module):
    """Images to feature maps."""

    def __init__(self, backbone: nn.Module, backbone_width: int, width: int) -> None:
        """Builds the encoder.

        Args:
            backbone: As `dinov3` returns it.
            backbone_width: Its channels.
            width: D, channels of the features.
        """
        super().__init__()
        self.backbone = backbone
        self.lateral = nn.Conv2d(backbone_width, width, 1)
        self.smooth = nn.Conv2d(width, width, 3, padding=1)
        self.level_embeds = nn.Parameter(torch.zeros(2, width))

    def forward(self, images: Tensor) -> Tensor:
        """Encodes images.

        Args:
            images: (N, 3, H, W) normalised; H and W are multiples of 16.

        Returns:
            (N, D, H / 16, W / 16).
        """
        rows, columns = images.shape[2] // PATCH, images.shape[3] // PATCH
        tokens = self.backbone(pixel_values=images).last_hidden_state
        # Class and register tokens come first.
        patches = tokens[:, -rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))
        # The release has one level of features and embeddings for two.
        features: Tensor = self.smooth(self.lateral(patches)) + self.level_embeds[0, :, None, None]
        return features
