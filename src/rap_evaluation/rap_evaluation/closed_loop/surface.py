"""The areas of a map, for questions about where the ego's box is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rap_evaluation.expert.road_areas import RoadAreas
from rap_evaluation.metrics import pdm_kernels as kernels
from rap_evaluation.metrics.pdm_scene import STATE_SIZE, StateIndex
from rap_evaluation.planners.observation import LEVEL_M
from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import VectorMap


class Surface:
    """Road and lanes of a whole map, as the PDM score sees them."""

    def __init__(self, vector_map: VectorMap) -> None:
        """Indexes all areas."""
        every = RoadAreas(vector_map)
        areas = every.near(np.zeros(2), (), np.inf)
        self._index = kernels.index_areas(
            areas.kinds, areas.on_route, areas.offsets, areas.points_m
        )
        self._lowest_m, self._highest_m = every.heights_m.T

    def flags(self, state: FloatArray, ground_m: float) -> npt.NDArray[np.bool_]:
        """Returns (5,) in which areas the ego is; those on another level are not under it.

        The columns are those of `pdm_kernels.ego_areas`; of routes this knows nothing.

        Args:
            state: (11,) ego state.
            ground_m: Height of the road under it.
        """
        on_level = (self._lowest_m < ground_m + LEVEL_M) & (self._highest_m > ground_m - LEVEL_M)
        # Nothing is within bounds that are not numbers.
        bounds = np.where(on_level[:, None], self._index.bounds, np.nan)
        index = self._index._replace(bounds=bounds)
        flags: npt.NDArray[np.bool_] = kernels.ego_areas(index, state[None, None])[0, 0]
        return flags

    def fits(self, poses_m: FloatArray) -> bool:
        """True if the ego's box is on the road at all (n, 4) x, y, z, heading of the rear axle."""
        state = np.zeros(STATE_SIZE)
        for x, y, z, heading in poses_m:
            state[: StateIndex.HEADING + 1] = x, y, heading
            if self.flags(state, z)[kernels.NON_DRIVABLE]:
                return False
        return True
