"""Our maps as the PDM score wants them: areas near the ego, and the centreline of a route."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import shapely
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from rap_evaluation.metrics.pdm_scene import Area, AreaMap
from rap_evaluation.traffic.network import densified
from rap_raster.frames import FloatArray
from rap_raster.maps.lane_geometry import distances_along
from rap_raster.maps.vector_map import Lane, VectorMap
from rap_raster.scene import PolygonKind

FALLBACK_SPEED_MPS = 15.0
"""Where no limit is known. Source: PDM-Closed (arXiv 2306.07962), section 4."""

MAP_RADIUS_M = 100.0
"""Half the side of the square of map around the ego that is scored. Source: NAVSIM."""

_STEP_M = 1.0
_SMOOTHING_M = 1.0  # As of recorded traffic: cuts a bend of 7 m by 0.07 m.
_PADDING = 4  # Four times the width of the smoothing.
_LANE_CHANGE_M = 40.0  # Some 4 s in town.
_HALF_LANE_M = 1.75  # Where a map knows no edges.
_GAP_M = 0.3  # Between surfaces, at most; and how far a lane may reach over their ends.
_HALF_ROAD_M = 3.0  # And how far from such a lane one can drive: into half of the next.

_DRIVABLE = {PolygonKind.DRIVABLE: Area.ROADBLOCK, PolygonKind.INTERSECTION: Area.INTERSECTION}


class RoadAreas:
    """The areas of one map with their bounding boxes, for many crops of it.

    Attributes:
        heights_m: (P, 2) lowest and highest point of each of its P areas.
    """

    def __init__(self, vector_map: VectorMap) -> None:
        """Indexes all areas."""
        self._lanes = vector_map.lanes
        named = [*_drivable_rings(vector_map), *_lane_rings(vector_map.lanes)]
        rings = [ring for _, _, ring in named]
        self._names = [name for name, _, _ in named]
        self._kinds = np.array([kind for _, kind, _ in named], dtype=np.uint8)
        self._counts = np.array([len(ring) for ring in rings], dtype=np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        self._points_m = np.ascontiguousarray(np.concatenate([*rings, np.zeros((0, 3))])[:, :2])
        low_m, high_m = (
            np.array([end(ring, axis=0) for ring in rings]).reshape(-1, 3)
            for end in (np.min, np.max)
        )
        self._low_m, self._high_m = low_m[:, :2], high_m[:, :2]
        self.heights_m = np.column_stack([low_m[:, 2], high_m[:, 2]])
        self._lane_rows = {
            name: row
            for row, (name, kind, _) in enumerate(named)
            if kind in (Area.LANE, Area.LANE_CONNECTOR)
        }

    def near(
        self, center_m: FloatArray, route_lanes: Iterable[str], radius_m: float = MAP_RADIUS_M
    ) -> AreaMap:
        """Returns the areas with a bounding box within a square around a point.

        Args:
            center_m: (2,) or (3,) metres, map frame; height is ignored.
            route_lanes: Lanes of the route; those beside them in the same direction belong to it
                too, as nuPlan's roadblocks have it.
            radius_m: Half the side of the square.
        """
        reached = (self._low_m <= center_m[:2] + radius_m) & (
            self._high_m >= center_m[:2] - radius_m
        )
        rows = np.flatnonzero(reached.all(axis=1))
        counts = self._counts[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        points = np.arange(offsets[-1]) + np.repeat(self._starts[rows] - offsets[:-1], counts)
        return AreaMap(
            ids=tuple(self._names[row] for row in rows),
            kinds=self._kinds[rows],
            on_route=self.on_route(route_lanes)[rows],
            offsets=offsets,
            points_m=self._points_m[points],
        )

    def on_route(self, route_lanes: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Returns (P,) which areas are lanes of a route, or beside one in the same direction."""
        chosen = np.zeros(len(self._names), dtype=np.bool_)
        chosen[[self._lane_rows[lane] for lane in self._beside(route_lanes)]] = True
        return chosen

    def _beside(self, lane_ids: Iterable[str]) -> set[str]:
        """Returns lanes and all their neighbours in the same direction."""
        found: set[str] = set()
        waiting = list(lane_ids)
        while waiting:
            key = waiting.pop()
            if key not in found and key in self._lane_rows:
                found.add(key)
                lane = self._lanes[key]
                waiting += [n for n in (lane.left_neighbor, lane.right_neighbor) if n is not None]
        return found


def route_centerline(
    lanes: Mapping[str, Lane], lane_ids: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """Returns the line to drive on along a route, and how fast.

    Where the route goes to a neighbour, the line crosses over smoothly from the lane's start.

    Args:
        lanes: Lane graph.
        lane_ids: At least one; each a successor or a neighbour of the one before.

    Returns:
        (n, 3) x, y, heading about 1 m apart, map frame; (n,) speed limits, m/s. A lane without a
        limit takes that of the lane before it, or `FALLBACK_SPEED_MPS`.
    """
    runs = _runs(lanes, lane_ids)
    pieces = [_run_line(lanes[run[0]], lanes[run[-1]]) for run in runs]
    limits = known_limits([lanes[run[-1]].speed_limit_mps for run in runs])
    line = _smoothed(_even(np.concatenate(pieces)))
    slope = np.gradient(line, axis=0)
    owner = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
    _, nearest = cKDTree(np.concatenate(pieces)).query(line)
    return np.column_stack([line, np.arctan2(slope[:, 1], slope[:, 0])]), limits[owner[nearest]]


def _drivable_rings(vector_map: VectorMap) -> list[tuple[str, Area, FloatArray]]:
    """Returns what is drivable: the map's surfaces, and lanes where it has none.

    Maps whose lanes have no edges often have no surfaces in junctions. There, such lanes are
    drivable as wide as roads usually are.
    """
    polygons = vector_map.polygons
    named = [
        (f"area.{i}", _DRIVABLE[PolygonKind(kind)], polygons[i])
        for i, kind in enumerate(polygons.kinds)
        if kind in _DRIVABLE
    ]
    bare = [
        lane
        for lane in vector_map.lanes.values()
        if lane.left_m is None or lane.right_m is None or not named
    ]
    covered = _on_surfaces(bare, [ring for _, _, ring in named])
    return named + [
        (f"area.{lane.id}", _area_of(lane), _ring(lane, _HALF_ROAD_M))
        for lane, is_covered in zip(bare, covered, strict=True)
        if not is_covered
    ]


def _on_surfaces(lanes: Sequence[Lane], rings: Sequence[FloatArray]) -> npt.NDArray[np.bool_]:
    """Returns which lanes lie wholly on some surfaces, small gaps between them aside."""
    surfaces = [shapely.make_valid(shapely.Polygon(ring[:, :2])) for ring in rings]
    whole = shapely.buffer(shapely.union_all(surfaces), _GAP_M)
    shapely.prepare(whole)
    lines = [shapely.LineString(lane.centerline_m[:, :2]) for lane in lanes]
    result: npt.NDArray[np.bool_] = shapely.covers(whole, np.array(lines, dtype=object))
    return result


def _area_of(lane: Lane) -> Area:
    return Area.INTERSECTION if lane.in_junction else Area.ROADBLOCK


def _lane_rings(lanes: Mapping[str, Lane]) -> list[tuple[str, Area, FloatArray]]:
    return [
        (key, Area.LANE_CONNECTOR if lane.in_junction else Area.LANE, _ring(lane))
        for key, lane in lanes.items()
    ]


def _ring(lane: Lane, half_width_m: float = _HALF_LANE_M) -> FloatArray:
    """Returns the (n, 3) outline of a lane; the width is used where its edges are not known."""
    if lane.left_m is not None and lane.right_m is not None:
        return np.concatenate([lane.left_m, lane.right_m[::-1]])
    dx, dy = np.gradient(lane.centerline_m[:, :2], axis=0).T
    normal = np.stack([-dy, dx, np.zeros_like(dx)], axis=-1) / np.hypot(dx, dy)[:, None]
    left, right = (lane.centerline_m + side * normal for side in (half_width_m, -half_width_m))
    return np.concatenate([left, right[::-1]])


def _runs(lanes: Mapping[str, Lane], lane_ids: Sequence[str]) -> list[list[str]]:
    """Cuts a lane sequence into runs of neighbours."""
    runs = [[lane_ids[0]]]
    for key, following in pairwise(lane_ids):
        if following in (lanes[key].left_neighbor, lanes[key].right_neighbor):
            runs[-1].append(following)
        else:
            runs.append([following])
    return runs


def _run_line(first: Lane, last: Lane) -> FloatArray:
    """Returns the (n, 2) line from the start of one lane to the end of another beside it."""
    start = densified(first.centerline_m[:, :2], _STEP_M)
    if first is last:
        return start
    end = _even(densified(last.centerline_m[:, :2], _STEP_M), len(start))
    share = np.linspace(0.0, 1.0, len(start)) * max(1.0, len(start) * _STEP_M / _LANE_CHANGE_M)
    share = np.minimum(share, 1.0)[:, None]
    share = share * share * (3.0 - 2.0 * share)
    line: FloatArray = (1.0 - share) * start + share * end
    return line


def _even(line_m: FloatArray, count: int | None = None) -> FloatArray:
    """Returns points at even distances along a (n, 2) line: as many, or about a metre apart."""
    along = distances_along(line_m)
    count = count or max(2, round(along[-1] / _STEP_M) + 1)
    grid = np.linspace(0.0, along[-1], count)
    return np.stack([np.interp(grid, along, line_m[:, axis]) for axis in (0, 1)], axis=-1)


def _smoothed(line_m: FloatArray) -> FloatArray:
    """Smooths (n, 2) points a step apart; the ends stay, as if the line went on straight."""
    pad = min(_PADDING, len(line_m) - 1)
    longer = np.pad(line_m, ((pad, pad), (0, 0)), mode="reflect", reflect_type="odd")
    smooth: FloatArray = gaussian_filter1d(longer, _SMOOTHING_M / _STEP_M, axis=0)
    return smooth[pad:-pad]


def known_limits(limits_mps: Sequence[float | None]) -> npt.NDArray[np.float64]:
    """Fills in limits that are not known from those before."""
    known, filled = FALLBACK_SPEED_MPS, []
    for limit in limits_mps:
        known = known if limit is None else limit
        filled.append(known)
    return np.array(filled)
