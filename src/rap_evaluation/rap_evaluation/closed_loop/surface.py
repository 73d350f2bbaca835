"""The areas of a map, for questions about where the ego's box is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rap_evaluation.expert.road_areas import RoadAreas
from rap_evaluation.metrics import pdm_kernels as kernels
from rap_evaluation.metrics.pdm_scene import STATE_SIZE, StateIndex
from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import VectorMap


class Surface:
    """Road and lanes of a whole map, as the PDM score sees them."""

    def __init__(self, vector_map: VectorMap) -> None:
        """Indexes all areas."""
        areas = RoadAreas(vector_map).near(np.zeros(2), (), np.inf)
        self._index = kernels.index_areas(
            areas.kinds, areas.on_route, areas.offsets, areas.points_m
        )

    def flags(self, states: FloatArray) -> npt.NDArray[np.bool_]:
        """Returns (n, 5) in which areas the ego is at (n, 11) states.

        The columns are those of `pdm_kernels.ego_areas`; of routes this knows nothing.
        """
        flags: npt.NDArray[np.bool_] = kernels.ego_areas(self._index, states[:, None])[:, 0]
        return flags

    def fits(self, poses_m: FloatArray) -> bool:
        """True if the ego's box is on the road at all (n, 3) x, y, heading of the rear axle."""
        states = np.zeros((len(poses_m), STATE_SIZE))
        states[:, : StateIndex.HEADING + 1] = poses_m
        return not self.flags(states)[:, kernels.NON_DRIVABLE].any()
