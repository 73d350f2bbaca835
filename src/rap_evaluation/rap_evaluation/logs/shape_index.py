"""Fast cropping of map shapes: bounding boxes once, then array work only.

Training asks for the surroundings of a pose hundreds of times a second; per-shape Python loops
would take longer than drawing.
"""

from __future__ import annotations

import numpy as np

from rap_raster.frames import FloatArray
from rap_raster.scene import Shapes


class ShapeIndex:
    """Shapes with their bounding boxes."""

    def __init__(self, shapes: Shapes) -> None:
        """Computes the boxes."""
        self.shapes = shapes
        self._counts = np.diff(shapes.offsets)
        if len(shapes):
            starts = shapes.offsets[:-1]
            self._low = np.minimum.reduceat(shapes.points_m[:, :2], starts, axis=0)
            self._high = np.maximum.reduceat(shapes.points_m[:, :2], starts, axis=0)

    def near(self, center_m: FloatArray, radius_m: float) -> Shapes:
        """Returns what `shapes_near` returns: shapes whose box comes within `radius_m`.

        Args:
            center_m: (2,) metres, map frame.
            radius_m: Metres, along x and y separately.
        """
        if len(self.shapes) == 0:
            return self.shapes
        reach = np.all(
            (self._low <= center_m + radius_m) & (self._high >= center_m - radius_m), axis=1
        )
        chosen = np.flatnonzero(reach)
        counts = self._counts[chosen]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        # Row of every point: where its shape begins, plus its place within the shape.
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        rows = np.repeat(self.shapes.offsets[:-1][chosen], counts) + within
        return Shapes(self.shapes.kinds[chosen], offsets, self.shapes.points_m[rows])
