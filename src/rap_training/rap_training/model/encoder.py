"""The image encoder, for camera images and rasters: its output is the aligned feature."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from rap_training.config import BackboneConfig, ModelConfig
from rap_training.model.backbones.backbone import Backbone
from rap_training.model.backbones.catalog import Pretrained, make_backbone
from rap_training.model.backbones.plain import Plain


class Encoder(nn.Module):
    """Images to per-camera feature maps: a backbone and a neck.

    Attributes:
        stride: Input pixels per feature cell.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Builds backbone and neck. Neck: a 1x1, then a 3x3 convolution, as published."""
        super().__init__()
        self.backbone = _backbone(config.backbone)
        self.stride = self.backbone.stride
        width = config.feature_channels
        self.neck = nn.Sequential(
            nn.Conv2d(self.backbone.channels, width, 1), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Encodes images.

        Args:
            images: (N, 3, H, W) normalised; H and W are multiples of `stride`.

        Returns:
            (N, F, H / stride, W / stride).
        """
        features: Tensor = self.neck(self.backbone(images))
        return features


def _backbone(config: BackboneConfig) -> Backbone:
    """Makes the backbone of a configuration."""
    if config.name == "plain":
        return Plain(config.widths)
    weights: Pretrained = None
    if config.weights == "package":
        weights = "package"
    elif config.weights != "random":
        weights = Path(config.weights)
    return make_backbone(
        config.name, pretrained=weights, stages=config.stages, frozen=config.frozen
    )
