"""The line of a route over a map of roadblocks, from the lane that the ego is on.

nuPlan names a route by its roadblocks, each with several lanes. PDM-Closed picks the lanes: it
starts on the lane it stands on and takes the shortest way to the last roadblock. Source: NAVSIM,
`abstract_pdm_planner.py` and `graph_search/dijkstra.py` at 0a380a90.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from rap_evaluation.expert.road_areas import known_limits
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import polyline_length


@dataclass(frozen=True, slots=True)
class BlockLane:
    """A lane or lane connector.

    Attributes:
        block: Id of its roadblock or roadblock connector.
        centerline_m: (n, 2) in driving direction, n >= 2.
        polygon_m: (m, 2) outline.
        successors: Ids of the lanes that follow.
        speed_limit_mps: Or None where unknown.
    """

    block: str
    centerline_m: FloatArray
    polygon_m: FloatArray
    successors: tuple[str, ...]
    speed_limit_mps: float | None


def block_route_centerline(
    lanes: Mapping[str, BlockLane], blocks: Sequence[str], ego_pose: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Returns the line to drive on along a route of roadblocks.

    Args:
        lanes: By id.
        blocks: The route's roadblocks and connectors in order.
        ego_pose: (3,) x, y, heading of the rear axle, map frame.

    Returns:
        (n, 3) x, y, heading at the points of the centrelines; (n,) speed limits, m/s, see
        `road_areas.known_limits`.

    Raises:
        ValueError: If no lane belongs to the route.
    """
    route = {key: lane for key, lane in lanes.items() if lane.block in set(blocks)}
    if not route:
        raise ValueError("route_roadblock_ids: no lane of the map belongs to these roadblocks")
    way = [route[key] for key in _shortest_way(route, _start_lane(route, ego_pose), blocks[-1])]
    limits = known_limits([lane.speed_limit_mps for lane in way])
    line = np.concatenate([_with_headings(lane.centerline_m) for lane in way])
    return line, np.repeat(limits, [len(lane.centerline_m) for lane in way])


def _start_lane(route: Mapping[str, BlockLane], ego_pose: FloatArray) -> str:
    """Returns the lane under the ego with the least heading error, or else the nearest."""
    rear_axle = shapely.Point(ego_pose[:2])
    apart = {
        key: shapely.Polygon(lane.polygon_m).distance(rear_axle) for key, lane in route.items()
    }
    nearest = min(apart.values())
    return min(
        (key for key in route if apart[key] <= nearest),
        key=lambda key: _heading_error(route[key].centerline_m, ego_pose),
    )


def _heading_error(centerline_m: FloatArray, ego_pose: FloatArray) -> float:
    line = _with_headings(centerline_m)
    nearest = np.argmin(np.hypot(*(line[:, :2] - ego_pose[:2]).T))
    return abs(float(wrap_angle(line[nearest, 2] - ego_pose[2])))


def _shortest_way(route: Mapping[str, BlockLane], start: str, goal_block: str) -> list[str]:
    """Returns lanes from the start to the first lane of a roadblock, or as far as they go."""
    ways = list(_ways_by_length(route, start))
    reached = [way for way in ways if route[way[-1]].block == goal_block]
    return reached[0] if reached else max(ways, key=len)


def _ways_by_length(route: Mapping[str, BlockLane], start: str) -> Iterator[list[str]]:
    """Yields the shortest way to every lane that can be reached, nearest first (Dijkstra 1959)."""
    waiting = [(0.0, [start])]
    visited: set[str] = set()
    while waiting:
        length_m, way = heapq.heappop(waiting)
        if way[-1] in visited:
            continue
        visited.add(way[-1])
        yield way
        for key in route[way[-1]].successors:
            if key in route:
                added_m = polyline_length(route[key].centerline_m)
                heapq.heappush(waiting, (length_m + added_m, [*way, key]))


def _with_headings(line_m: FloatArray) -> FloatArray:
    """Returns (n, 3) points with the direction to the next; the last keeps that before it."""
    steps = np.diff(line_m, axis=0)
    heading = np.arctan2(steps[:, 1], steps[:, 0])
    return np.column_stack([line_m, np.append(heading, heading[-1])])
