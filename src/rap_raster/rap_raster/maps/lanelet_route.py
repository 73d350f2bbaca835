"""Routes given as lanelets, as Autoware's mission planner gives them, on a map of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rap_raster.frames import FloatArray
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
        goal_m: (2,) x, y of the goal, map frame; the route ends beside it.

    Returns:
        (n, 3) points, map frame.

    Raises:
        ValueError: If the route is empty, names a lanelet that is no lane of the map, or has a goal
            that is not finite.

    Source: autoware_planning_msgs, LaneletRoute and LaneletSegment.
    """
    keys = [str(number) for number in lanelet_ids]
    unknown = [key for key in keys if key not in lanes]
    if unknown or not keys:
        reason = f"lanelet {unknown[0]} is no lane of the map" if unknown else "it has no segments"
        raise ValueError(f"lanelet route: {reason}")
    if not np.isfinite(goal_m).all():
        raise ValueError("lanelet route: its goal is not finite")
    return _up_to(route_points(lanes, _connected(lanes, keys)), goal_m)


def _connected(lanes: Mapping[str, Lane], keys: list[str]) -> list[str]:
    """Fills in the neighbour through which one preferred lane leads to the next."""
    sequence = keys[:1]
    for key in keys[1:]:
        last = lanes[sequence[-1]]
        if key not in last.successors:
            beside = (last.left_neighbor, last.right_neighbor)
            ways = [n for n in beside if n is not None and key in lanes[n].successors]
            sequence += ways[:1]
        sequence.append(key)
    return sequence


def _up_to(route_m: FloatArray, goal_m: FloatArray) -> FloatArray:
    """Cuts a route where it is nearest to its goal."""
    starts, steps = route_m[:-1, :2], np.diff(route_m[:, :2], axis=0)
    share = ((goal_m - starts) * steps).sum(axis=1) / (steps**2).sum(axis=1)
    feet = starts + np.clip(share, 0.0, 1.0)[:, None] * steps
    nearest = int(np.argmin(np.hypot(*(feet - goal_m).T)))
    along = distances_along(route_m)
    goal_at = along[nearest] + np.hypot(*(feet[nearest] - starts[nearest]))
    kept = along[along < goal_at]
    grid = np.append(kept, max(goal_at, along[0]))
    return np.stack([np.interp(grid, along, route_m[:, axis]) for axis in range(3)], axis=-1)
