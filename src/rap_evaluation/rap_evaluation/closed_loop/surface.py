"""The areas of a map, for questions about where the ego's box is."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import shapely

from rap_evaluation.expert.road_areas import RoadAreas
from rap_evaluation.metrics import pdm_kernels as kernels
from rap_evaluation.metrics.pdm_scene import STATE_SIZE, Area, StateIndex
from rap_evaluation.planners.observation import LEVEL_M
from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import VectorMap

ROAD = (Area.ROADBLOCK, Area.INTERSECTION, Area.CARPARK)
"""What can be driven on; lanes lie within it."""

FAR_M = 100.0
"""Where there is no road at all."""


class Surface:
    """Road and lanes of a whole map, as the PDM score sees them."""

    def __init__(self, vector_map: VectorMap) -> None:
        """Indexes all areas."""
        self._every = RoadAreas(vector_map)
        areas = self._every.near(np.zeros(2), (), np.inf)
        self._index = kernels.index_areas(
            areas.kinds, areas.on_route, areas.offsets, areas.points_m
        )
        self._lowest_m, self._highest_m = self._every.heights_m.T
        self._road = np.isin(areas.kinds, ROAD)
        rings = np.split(areas.points_m, areas.offsets[1:-1])
        self._polygons = np.array([shapely.Polygon(ring) for ring in rings], dtype=object)

    def along(self, route_lanes: Iterable[str]) -> Surface:
        """Returns the same surface, which knows the lanes of a route."""
        surface = copy.copy(self)
        surface._index = self._index._replace(on_route=self._every.on_route(route_lanes))
        return surface

    def flags(self, state: FloatArray, ground_m: float) -> npt.NDArray[np.bool_]:
        """Returns (5,) in which areas the ego is; those on another level are not under it.

        The columns are those of `pdm_kernels.ego_areas`; of no route unless it is one `along` it.

        Args:
            state: (11,) ego state.
            ground_m: Height of the road under it.
        """
        on_level = self._on_level(ground_m)
        # Nothing is within bounds that are not numbers.
        bounds = np.where(on_level[:, None], self._index.bounds, np.nan)
        index = self._index._replace(bounds=bounds)
        flags: npt.NDArray[np.bool_] = kernels.ego_areas(index, state[None, None])[0, 0]
        return flags

    def off_road_m(self, state: FloatArray, ground_m: float) -> float:
        """Returns how far the farthest corner of the ego is from the road, `FAR_M` at most.

        Args:
            state: (11,) ego state.
            ground_m: Height of the road under it.
        """
        x, y, cos, sin = kernels.ego_box(state)
        corners = shapely.points(kernels.box_corners(x, y, cos, sin))
        road = self._polygons[self._on_level(ground_m) & self._road]
        return float(shapely.distance(corners[:, None], road).min(axis=1, initial=FAR_M).max())

    def _on_level(self, ground_m: float) -> npt.NDArray[np.bool_]:
        result: npt.NDArray[np.bool_] = (self._lowest_m < ground_m + LEVEL_M) & (
            self._highest_m > ground_m - LEVEL_M
        )
        return result

    def fits(self, poses_m: FloatArray) -> bool:
        """True if the ego's box is on the road at all (n, 4) x, y, z, heading of the rear axle."""
        state = np.zeros(STATE_SIZE)
        for x, y, z, heading in poses_m:
            state[: StateIndex.HEADING + 1] = x, y, heading
            if self.flags(state, z)[kernels.NON_DRIVABLE]:
                return False
        return True
