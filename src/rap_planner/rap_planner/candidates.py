"""Scored proposals of the planner, in the map frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_planner.route import Command
from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray

LATERAL_BIN_M = 2.0
"""End points further apart sideways are different manoeuvres: about half a lane."""

LONGITUDINAL_BIN_M = 8.0
"""End points further apart lengthways are different manoeuvres: a second at 8 m/s."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """K proposals of T poses.

    Attributes:
        stamp_ns: Stamp of the features they were computed from.
        ego: Ego state at the stamp.
        dt_s: Time between poses; pose k is at the stamp plus (k + 1) dt_s.
        poses_m: (K, T, 3) x, y (metres), yaw (radians), map frame.
        scores: (K,) higher is better.
        uncertainty: Entropy over manoeuvre clusters, 0 (sure) to 1.
        command: What the planner was told.
        command_source: "command", "route" or "none".
        inference_ms: Time of the planner network alone.
        camera_sources: (C,) uint8 `FeatureSource` codes of the features, in the bundle's order.
        alignment_distance: Largest distance between camera and raster features; NaN where none was
            measured.
    """

    stamp_ns: int
    ego: EgoState
    dt_s: float
    poses_m: FloatArray
    scores: npt.NDArray[np.float32]
    uncertainty: float
    command: Command
    command_source: str
    inference_ms: float
    camera_sources: npt.NDArray[np.uint8]
    alignment_distance: float

    @property
    def best(self) -> int:
        """Index of the best-scored proposal."""
        return int(np.argmax(self.scores))


def manoeuvre_entropy(ends_m: npt.NDArray[np.floating], scores: npt.NDArray[np.floating]) -> float:
    """Entropy over clusters of proposal end points, normalised to 0..1.

    Many proposals that end in one place are one manoeuvre, so their score mass is added up before
    the entropy is taken.

    Args:
        ends_m: (K, 2) end points in the ego frame.
        scores: (K,) logits.
    """
    weights = np.exp(scores - scores.max())
    cells = np.floor(ends_m / [LONGITUDINAL_BIN_M, LATERAL_BIN_M]).astype(np.int64)
    _, cluster = np.unique(cells, axis=0, return_inverse=True)
    mass = np.bincount(cluster.ravel(), weights=weights) / weights.sum()
    mass = mass[mass > 0]
    if len(mass) < 2:
        return 0.0
    return float(-(mass * np.log(mass)).sum() / np.log(len(scores)))
