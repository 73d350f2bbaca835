"""What all backbones have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from typing import Self


class BackboneError(ValueError):
    """A backbone that cannot be made or used; the text gives the reason in one line."""


class Backbone(nn.Module, ABC):
    """Images to feature maps.

    The names of its tensors are those of the published checkpoints.

    Attributes:
        channels: Of the feature maps.
        stride: Input pixels per feature cell.
        unused: Beginnings of the names of published tensors that this network has no place for:
            classifiers and what was cut off.
    """

    def __init__(self, channels: int, stride: int, unused: tuple[str, ...]) -> None:
        """Sets the attributes; the layers are the subclass's."""
        super().__init__()
        self.channels, self.stride, self.unused = channels, stride, unused
        self._frozen = False

    def forward(self, images: Tensor) -> Tensor:
        """Computes features.

        Args:
            images: (N, 3, H, W) rgb as `rap_training.normalization.normalize` returns them.

        Returns:
            (N, channels, H / stride, W / stride).

        Raises:
            BackboneError: If H or W is not a multiple of `stride`.
        """
        rows, columns = images.shape[-2:]
        if rows % self.stride or columns % self.stride:
            size = f"{int(columns)} x {int(rows)} pixels"
            raise BackboneError(f"images of {size}: expected multiples of {self.stride}")
        return self._features(images)

    def freeze(self) -> None:
        """Keeps weights and batch statistics as they are, whatever `train` says later."""
        self._frozen = True
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; a frozen backbone stays in evaluation mode."""
        return super().train(mode and not self._frozen)

    @abstractmethod
    def _features(self, images: Tensor) -> Tensor:
        """Returns the features of images whose size has been checked."""


def kept_stages(name: str, stages: int | None, count: int) -> int:
    """Returns how many of `count` stages to build; None means all.

    Raises:
        BackboneError: If there are not so many.
    """
    if stages is not None and not 1 <= stages <= count:
        raise BackboneError(f"{name}: stages {stages}: expected 1 to {count}")
    return count if stages is None else stages
