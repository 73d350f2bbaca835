"""Routes given as lanelets, as Autoware's mission planner gives them, on a map of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import shapely

from rap_raster.frames import MAX_PLACE_M, FloatArray
from rap_raster.maps.lane_geometry import distances_along
from rap_raster.maps.routing import route_points
from rap_raster.maps.vector_map import Lane


def lanelet_route_points(
    lanes: Mapping[str, Lane], lanelet_ids: Sequence[int], goal_m: FloatArray
) -> FloatArray:
    """Returns the centreline of a route, up to its goal.

    Args:
        lanes: Lane graph of the Lanelet2 map that the route was made on.
        lanelet_ids: The preferred lanelet of every segment, in driving order. From one segment to
            the next, the preferred lane may change to a neighbour.
        goal_m: (2,) x, y of the goal, map frame; the route ends beside it, on the last lanelet.

    Returns:
        (n, 3) points, map frame.

    Raises:
        ValueError: If the route is empty, names a lanelet that is no lane of the map, or one that
            does not follow the one before, or has a goal at no place.

    Source: autoware_planning_msgs, LaneletRoute and LaneletSegment.
    """
    keys = [str(number) for number in lanelet_ids]
    unknown = [key for key in keys if key not in lanes]
    if unknown or not keys:
        reason = f"lanelet {unknown[0]} is no lane of the map" if unknown else "it has no segments"
        raise ValueError(f"lanelet route: {reason}")
    if not (np.abs(goal_m) <= MAX_PLACE_M).all():
        raise ValueError(f"lanelet route: its goal is not finite or beyond {MAX_PLACE_M:g} m")
    route_m = route_points(lanes, _connected(lanes, keys))
    return _cut(route_m, lanes[keys[-1]].centerline_m, goal_m)


def _connected(lanes: Mapping[str, Lane], keys: list[str]) -> list[str]:
    """Fills in the neighbours over which one preferred lane leads to the next.

    Raises:
        ValueError: If there is no way from one to the next.
    """
    sequence = keys[:1]
    for key in keys[1:]:
        last = sequence[-1]
        ways = [[*way[1:], key] for way in _beside(lanes, last) if key in lanes[way[-1]].successors]
        if not ways:  # A lane that begins beside the next one, such as a pocket to turn.
            following = [way for go_on in lanes[last].successors for way in _beside(lanes, go_on)]
            ways = [way for way in following if way[-1] == key]
        if not ways:
            raise ValueError(f"lanelet route: lanelet {key} does not follow lanelet {last}")
        shortest: list[str] = min(ways, key=len)
        sequence += shortest
    return sequence


def _beside(lanes: Mapping[str, Lane], key: str) -> list[list[str]]:
    """Returns the lane itself, and the ways to all lanes beside it, one after the other."""
    ways = [[key]]
    for side in ("left_neighbor", "right_neighbor"):
        way = [key]
        while (beside := getattr(lanes[way[-1]], side)) in lanes and beside not in way:
            way = [*way, beside]
            ways.append(way)
    return ways


def _cut(route_m: FloatArray, last_m: FloatArray, goal_m: FloatArray) -> FloatArray:
    """Cuts a route where its last lane is nearest to the goal.

    Earlier lanes do not count: a route round the block passes its goal before it reaches it.
    """
    along = distances_along(route_m)
    goal_at = along[-1] - _length_behind(last_m[:, :2], goal_m)
    kept = along[along < goal_at]
    grid = np.append(kept, max(goal_at, along[0]))
    return np.stack([np.interp(grid, along, route_m[:, axis]) for axis in range(3)], axis=-1)


def _length_behind(line_m: FloatArray, place_m: FloatArray) -> float:
    """Returns how much of a line, in metres, lies behind the point of it nearest to a place."""
    line, place = shapely.LineString(line_m), shapely.Point(place_m)
    return float(line.length - line.project(place))
