"""The sizes of a published planner."""

from __future__ import annotations

from dataclasses import dataclass

PATCH = 16
"""Pixels of the encoder's input image per feature cell."""


@dataclass(frozen=True, slots=True)
class PublishedShape:
    """What the tensors of a checkpoint decide.

    Attributes:
        width: D, channels of features and queries; 1280 in the release.
        hidden: Channels inside the perceptrons; 1024 in the release.
        proposals: K, 64 in the release.
        poses: T, half a second apart; 10 in the release.
        layers: Attention layers of the refiner; 2 in the release.
        passes: How often the one refiner runs; 4 in the release.
        cameras: C, 4 in the release.
    """

    width: int
    hidden: int
    proposals: int
    poses: int
    layers: int
    passes: int
    cameras: int
