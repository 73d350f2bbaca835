"""The road of a map as one shape: whoever is within it has not left the road."""

from __future__ import annotations

import numpy as np
import shapely

from rap_evaluation.expert.road_areas import RoadAreas
from rap_evaluation.metrics.pdm_scene import Area, AreaMap
from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import VectorMap

SEAM_M = 0.1
"""Gaps up to this wide between areas of a map are drawing errors, no edges of the road."""

_EVERYWHERE_M = 1e9


def all_areas(vector_map: VectorMap) -> AreaMap:
    """Returns all areas of a map, as the PDM score knows them."""
    return RoadAreas(vector_map).near(np.zeros(2), (), _EVERYWHERE_M)


def drivable_area(areas: AreaMap) -> shapely.Geometry:
    """Returns all that is drivable as one shape, with the seams between areas closed."""
    rings = [area_ring(areas, row) for row in np.flatnonzero(areas.kinds < Area.LANE).tolist()]
    polygons = [shapely.make_valid(shapely.Polygon(ring)) for ring in rings]
    half = SEAM_M / 2
    wider = shapely.buffer(shapely.union_all(polygons), half, join_style="mitre")
    return shapely.buffer(wider, -half, join_style="mitre")


def area_ring(areas: AreaMap, row: int) -> FloatArray:
    """Returns the (n, 2) outline of an area."""
    return areas.points_m[areas.offsets[row] : areas.offsets[row + 1]]
