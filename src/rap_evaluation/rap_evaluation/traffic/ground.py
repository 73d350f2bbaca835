"""Heights of the road surface."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from rap_evaluation.traffic.network import densified
from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import VectorMap


class Ground:
    """Heights of the road surface, from the mapped centrelines."""

    def __init__(self, vector_map: VectorMap) -> None:
        """Indexes the centrelines of a map."""
        points = [densified(lane.centerline_m, 1.0) for lane in vector_map.lanes.values()]
        self._points_m = np.concatenate(points)
        self._tree = cKDTree(self._points_m)

    def height(self, points_m: FloatArray) -> FloatArray:
        """Returns the road's height under (n, 3) points, whose own heights tell bridges apart."""
        _, index = self._tree.query(points_m)
        heights: FloatArray = self._points_m[index, 2]
        return heights
