"""Parts of what is drawn of any map: lines in pieces, and areas united or cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import shapely
from scipy.spatial import cKDTree

from rap_raster.frames import FloatArray
from rap_raster.maps.lane_geometry import polyline_length, simplify
from rap_raster.scene import LineKind

PIECE_M = 50.0
"""Longest piece of a line or surface."""

_SEAM_M = 0.2  # Slits between surfaces narrower than twice this are closed.
_LONGEST_STEP_M = 10.0  # Long straight lines have few points to cut them at.
_MIN_ISLAND_M2 = 2.0  # Smaller holes in a junction are gaps of the file, not islands.

Shape = tuple[int, FloatArray]
"""Kind and points of a polyline or polygon."""


def pieces(n: int, length_m: float) -> Iterator[slice]:
    """Cuts n samples into runs that share their ends and are no longer than `PIECE_M`."""
    count = max(1, int(np.ceil(length_m / PIECE_M)))
    cuts = np.linspace(0, n - 1, count + 1).round().astype(int)
    for first, last in pairwise(cuts):
        if last > first:
            yield slice(first, last + 1)


def split_line(kind: LineKind, points_m: FloatArray) -> list[Shape]:
    """Cuts (n, 3) samples of a line into pieces and drops the samples that a line needs not."""
    return [
        (kind, simplify(points_m[piece]))
        for piece in pieces(len(points_m), polyline_length(points_m))
    ]


def sparse_line(kind: LineKind, points_m: FloatArray) -> list[Shape]:
    """Cuts a (n, 3) line of a map, whose points may lie far apart; nothing if it has no length."""
    if len(points_m) < 2 or polyline_length(points_m) <= 0.0:
        return []
    dense = shapely.segmentize(shapely.LineString(points_m), _LONGEST_STEP_M)
    return split_line(kind, shapely.get_coordinates(dense, include_z=True))


def area_rings(polygon: shapely.Geometry, known_m: FloatArray) -> Iterator[FloatArray]:
    """Yields (n, 3) outlines without holes that cover an area together.

    Args:
        polygon: Polygon or several, in the plane; mended where it crosses itself.
        known_m: (m, 3) points; the nearest one gives each point of an outline its height.
    """
    for whole in polygons_of(shapely.make_valid(polygon)):
        for part in without_holes(whole):
            yield with_height(shapely.get_coordinates(part.exterior)[:-1], known_m)


def united(rings: Iterable[FloatArray]) -> shapely.Geometry:
    """Unites surfaces, closes slits between them and drops holes that are no islands."""
    polygons = [shapely.make_valid(shapely.Polygon(ring[:, :2])) for ring in rings]
    grown = shapely.buffer(polygons, _SEAM_M, join_style="mitre", mitre_limit=2.0)
    union = shapely.union_all(grown).buffer(-_SEAM_M, join_style="mitre", mitre_limit=2.0)
    kept = [
        shapely.Polygon(p.exterior, [h for h in p.interiors if _area(h) >= _MIN_ISLAND_M2])
        for p in polygons_of(union)
    ]
    return shapely.MultiPolygon(kept).simplify(0.03)


def _area(ring: shapely.LinearRing) -> float:
    return float(shapely.Polygon(ring).area)


def polygons_of(geometry: shapely.Geometry) -> list[shapely.Polygon]:
    """Returns the polygons that a geometry consists of."""
    parts = shapely.get_parts(geometry)
    return [part for part in parts if isinstance(part, shapely.Polygon) and not part.is_empty]


def with_height(points_m: FloatArray, known_m: FloatArray) -> FloatArray:
    """Gives (n, 2) points the heights of the nearest of (m, 3) points."""
    _, nearest = cKDTree(known_m[:, :2]).query(points_m)
    return np.column_stack([points_m, known_m[nearest, 2]])


def without_holes(polygon: shapely.Polygon) -> list[shapely.Polygon]:
    """Cuts a polygon with holes into polygons without, through the middle of each hole."""
    if not polygon.interiors:
        return [polygon]
    x = shapely.centroid(shapely.Polygon(polygon.interiors[0])).x
    low_x, low_y, high_x, high_y = polygon.bounds
    halves = (shapely.box(low_x, low_y, x, high_y), shapely.box(x, low_y, high_x, high_y))
    parts = [part for half in halves for part in polygons_of(polygon.intersection(half))]
    return [piece for part in parts for piece in without_holes(part)]
