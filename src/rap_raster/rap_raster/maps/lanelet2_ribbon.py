"""Lanelets as strips: both edges and the centreline, sampled together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_raster.frames import FloatArray
from rap_raster.maps.lane_geometry import distances_along, polyline_length
from rap_raster.maps.lanelet2_file import Lanelet

_SAMPLE_STEP_M = 10.0  # Largest distance of samples: pieces of some 50 m are cut of them.


@dataclass(frozen=True, slots=True)
class Ribbon:
    """A lanelet as sampled, map frame.

    Attributes:
        left_m: (n, 3) left edge in the lanelet's direction.
        center_m: (m, 3) centreline.
        right_m: (n, 3) right edge; its points lie opposite those of the left edge.
    """

    left_m: FloatArray
    center_m: FloatArray
    right_m: FloatArray

    @property
    def inverted(self) -> Ribbon:
        """The same strip in the other direction."""
        return Ribbon(self.right_m[::-1], self.center_m[::-1], self.left_m[::-1])

    @property
    def ring_m(self) -> FloatArray:
        """(2n, 3) its outline."""
        return np.concatenate([self.left_m, self.right_m[::-1]])


def ribbon_of(lanelet: Lanelet) -> Ribbon:
    """Samples a lanelet: points of both edges at equal shares of their lengths belong together.

    The centreline is the mapped one where there is one, otherwise the middle of the edges.
    """
    left, right = lanelet.left.points_m, lanelet.right.points_m
    count = int(np.ceil(max(polyline_length(left), polyline_length(right)) / _SAMPLE_STEP_M)) + 1
    share = np.unique(np.concatenate([_shares(left), _shares(right), np.linspace(0, 1, count)]))
    left_m, right_m = _at_shares(left, share), _at_shares(right, share)
    center_m = 0.5 * (left_m + right_m)
    if lanelet.centerline is not None:
        center_m = _along(lanelet.centerline.points_m, center_m)
    return Ribbon(left_m, center_m, right_m)


def _shares(line_m: FloatArray) -> FloatArray:
    along = distances_along(line_m)
    shares: FloatArray = along / along[-1]
    return shares


def _at_shares(line_m: FloatArray, share: FloatArray) -> FloatArray:
    known = _shares(line_m)
    return np.stack([np.interp(share, known, line_m[:, axis]) for axis in range(3)], axis=-1)


def _along(mapped_m: FloatArray, center_m: FloatArray) -> FloatArray:
    """Returns a mapped centreline in a lanelet's direction; where it has no length, the other."""
    if polyline_length(mapped_m) <= 0.0:
        return center_m
    chord = center_m[-1, :2] - center_m[0, :2]
    with_lanelet = float(chord @ (mapped_m[-1, :2] - mapped_m[0, :2])) >= 0.0
    return mapped_m if with_lanelet else mapped_m[::-1]
