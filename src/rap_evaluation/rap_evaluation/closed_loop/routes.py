"""Seeded routes over the lane graph: from a lane to a lane, through junctions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_evaluation.closed_loop.place import Place
from rap_evaluation.planners.observation import Road
from rap_evaluation.traffic.network import densified
from rap_evaluation.traffic.towns import TrafficError
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import distances_along, polyline_length
from rap_raster.maps.routing import CONTINUATION_M, route_points
from rap_raster.maps.vector_map import Lane

MIN_LENGTH_M = 300.0
"""Least distance from start to goal."""

MAX_LENGTH_M = 450.0
"""Drawn lengths lie between; a goal that would lie in a junction moves on to behind it."""

MIN_JUNCTIONS = 2
"""Junctions a route passes before its goal, where the map has such a way."""

MIN_TURN_RAD = np.radians(30.0)
"""One of the junctions before the goal turns at least so much, where the map has such a way."""

GOAL_MARGIN_M = 10.0
"""Least distance of a goal from the junction before it: a drive that ends some metres before its
goal has left the junction with the whole ego."""

_START_MARGIN_M = 8.0  # Road behind the start: the ego's rear is some metres behind its origin.
_MIN_START_LANE_M = 30.0  # Room to see the first junction coming.
_STEP_M = 0.5
_ATTEMPTS = 3000


@dataclass(frozen=True, slots=True)
class Route(Road):
    """A way through a map: its road goes on past the goal, which lies outside junctions.

    From start to goal the ego's box on the line is on the road: some bends are too tight for it.

    Attributes:
        index: Its number.
        junctions: Those of the lanes before the goal that are in junctions.
        edges: SUMO's edges of the same way.
        start_m: Where on it the ego starts.
        goal_m: Where it is to get.
    """

    index: int
    junctions: tuple[str, ...]
    edges: tuple[str, ...]
    start_m: float
    goal_m: float

    @property
    def length_m(self) -> float:
        """From start to goal."""
        return self.goal_m - self.start_m

    @property
    def poses_m(self) -> FloatArray:
        """(n, 4) x, y, z and heading along the line, from start to goal."""
        dx, dy = np.gradient(self.line_m[:, :2], axis=0).T
        driven = (self.along_m >= self.start_m) & (self.along_m <= self.goal_m)
        poses: FloatArray = np.column_stack([self.line_m, np.arctan2(dy, dx)])[driven]
        return poses

    def at(self, along_m: float) -> FloatArray:
        """Returns (4,) x, y, z and heading at a distance along the line."""
        x, y, z = (np.interp(along_m, self.along_m, self.line_m[:, axis]) for axis in range(3))
        last = len(self.along_m) - 2
        i = int(np.clip(np.searchsorted(self.along_m, along_m, side="right") - 1, 0, last))
        dx, dy = self.line_m[i + 1, :2] - self.line_m[i, :2]
        return np.array([x, y, z, np.arctan2(dy, dx)])


def draw_routes(place: Place, count: int, seed: int) -> list[Route]:
    """Draws routes; route i depends on the map, the seed and i alone.

    Args:
        place: Where.
        count: How many.
        seed: Of the draw.

    Raises:
        TrafficError: If the map has no route of `MIN_LENGTH_M` through a junction.
    """
    starts = _start_lanes(place)
    return [_draw_route(place, starts, index, seed) for index in range(count)]


def _start_lanes(place: Place) -> list[Lane]:
    """Returns the lanes a route can start on: long enough, and traffic uses what follows."""
    return [
        lane
        for lane in place.map.lanes.values()
        if not lane.in_junction
        and polyline_length(lane.centerline_m) >= _MIN_START_LANE_M
        and _onward(place, lane)
    ]


def _draw_route(place: Place, starts: list[Lane], index: int, seed: int) -> Route:
    rng = np.random.default_rng([seed, index])
    wanted_m = rng.uniform(MIN_LENGTH_M, MAX_LENGTH_M)
    fallback: Route | None = None
    for _ in range(_ATTEMPTS if starts else 0):
        start = starts[int(rng.integers(len(starts)))]
        lanes = _walk(place, start, _START_MARGIN_M + wanted_m, rng)
        if not lanes:
            continue
        route = _route(place, lanes, _START_MARGIN_M + wanted_m, index, seed)
        worthwhile = _is_worthwhile(place, route)
        if not route.junctions or (fallback and not worthwhile):
            continue
        if not place.surface.fits(route.poses_m):
            continue
        if worthwhile:
            return route
        fallback = route
    if fallback is None:
        raise TrafficError(
            f"{place.map.name}: has no route of {MIN_LENGTH_M:g} m through a junction"
        )
    return fallback


def _is_worthwhile(place: Place, route: Route) -> bool:
    """True if a route passes enough junctions and turns in one of them."""
    turns_rad = [_turn(place.map.lanes[key]) for key in route.junctions]
    return len(turns_rad) >= MIN_JUNCTIONS and max(turns_rad) >= MIN_TURN_RAD


def _turn(lane: Lane) -> float:
    """Returns by how much a lane turns, from its start to its end."""
    steps = np.diff(lane.centerline_m[:, :2], axis=0)
    headings = np.arctan2(steps[[0, -1], 1], steps[[0, -1], 0])
    return float(np.abs(wrap_angle(headings[1] - headings[0])))


def _onward(place: Place, lane: Lane) -> list[Lane]:
    """Returns the lanes that follow, without turns that traffic cannot take."""
    following = [place.map.lanes[key] for key in lane.successors]
    return [lane for lane in following if not lane.in_junction or lane.id in place.turns]


def _walk(place: Place, start: Lane, wanted_m: float, rng: np.random.Generator) -> list[Lane]:
    """Returns lanes at random, `CONTINUATION_M` past their goal; empty if they end before."""
    lanes = [start]
    length_m = polyline_length(start.centerline_m)
    while length_m < _goal_distance(lanes, wanted_m) + CONTINUATION_M:
        onward = [lane for lane in _onward(place, lanes[-1]) if lane not in lanes]
        if not onward:
            return []
        lanes.append(onward[int(rng.integers(len(onward)))])
        length_m += polyline_length(lanes[-1].centerline_m)
    return lanes


def _route(place: Place, lanes: list[Lane], wanted_m: float, index: int, seed: int) -> Route:
    lane_ids = tuple(lane.id for lane in lanes)
    line_m = densified(route_points(place.map.lanes, lane_ids), _STEP_M)
    along_m = distances_along(line_m)
    starts_m = np.cumsum([0.0, *(polyline_length(lane.centerline_m) for lane in lanes)])
    goal_m = _goal_distance(lanes, wanted_m)
    return Route(
        index=index,
        seed=int(np.random.default_rng([seed, index, 1]).integers(2**31)),
        lane_ids=lane_ids,
        junctions=tuple(
            lane.id
            for lane, begin_m in zip(lanes, starts_m, strict=False)
            if lane.in_junction and begin_m < goal_m
        ),
        edges=_edges(place, lanes),
        line_m=line_m,
        along_m=along_m,
        start_m=_START_MARGIN_M,
        goal_m=goal_m,
    )


def _goal_distance(lanes: list[Lane], wanted_m: float) -> float:
    """Returns the first distance on a way that can be a goal, from the wanted one on.

    It is outside junctions and `GOAL_MARGIN_M` behind the last one; infinite if the way has none.
    """
    end_m, goal_m = 0.0, wanted_m
    for lane in lanes:
        end_m += polyline_length(lane.centerline_m)
        if lane.in_junction:
            goal_m = max(wanted_m, end_m + GOAL_MARGIN_M)
        elif goal_m <= end_m:
            return goal_m
    return np.inf


def _edges(place: Place, lanes: list[Lane]) -> tuple[str, ...]:
    """Returns SUMO's edges before and after each turn, without repetitions."""
    edges: list[str] = []
    for lane in lanes:
        if lane.in_junction:
            turn = place.turns[lane.id]
            edges += [edge for edge in (turn.from_edge, turn.to_edge) if edges[-1:] != [edge]]
    return tuple(edges)
