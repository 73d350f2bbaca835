"""Routes from map topology: which lanes a path passes, and where they lead.

A route says where the vehicle is to go, not how it drove. So only the sequence of lanes is taken
from a driven path: no times, no positions within lanes, and after the last lane the route goes on
straight, so that it does not tell where the drive ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import distances_along, polyline_length
from rap_raster.maps.vector_map import Lane

CONTINUATION_M = 60.0
"""How far a route goes on after the last lane: three times the command's look-ahead."""

_STEP_M = 2.0  # Between matched points of a path.
_LANE_STEP_M = 1.0  # Between indexed points of centrelines.
_MAX_LATERAL_M = 3.0  # Nearly a lane width: a vehicle between two lanes matches both.
_MAX_HEADING_RAD = np.radians(50.0)  # Beyond it, it is a crossing lane.
_LATERAL_SIGMA_M = 0.7
_HEADING_SIGMA_RAD = 0.25
_LANE_CHANGE_COST = 6.0  # One point on the wrong centreline costs more: 3.5^2 / 2 / 0.7^2.
_MIN_MATCHED_SHARE = 0.8  # Of a path; the rest may be parking places and gaps of the map.
_CROSSING_M = 30.0  # Lane change of a route: some 3 s in town.
_END_GAP_M = 0.6  # Between ends of centrelines that belong together.
_END_HEADING_RAD = np.radians(30.0)


@dataclass(frozen=True, slots=True)
class _Step:
    """A way from one lane to another between two points of a path: its cost and lanes passed."""

    cost: float
    passed: tuple[str, ...]


class LaneMatcher:
    """Matches paths to the lanes of one map; build it once and match many."""

    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        """Indexes the centrelines."""
        self._lanes = lanes
        self._keys = list(lanes)
        samples = [_resampled(lanes[key].centerline_m, _LANE_STEP_M) for key in self._keys]
        self._points = np.concatenate(samples) if samples else np.zeros((0, 3))
        self._owners = np.repeat(np.arange(len(samples)), [len(s) for s in samples])
        self._tree = cKDTree(self._points[:, :2]) if samples else None
        self._steps: dict[str, dict[str, _Step]] = {}

    def match(self, path: FloatArray) -> list[str] | None:
        """Returns the lanes a path passes and those it would pass next; see `route_along`."""
        points = _resampled_poses(np.asarray(path, dtype=np.float64))
        costs = [self._candidates(point) for point in points]
        found = [cost for cost in costs if cost]
        if len(found) < _MIN_MATCHED_SHARE * len(points) or not found:
            return None
        sequence = self._cheapest(found)
        return None if sequence is None else self._continued(sequence)

    def _candidates(self, point: FloatArray) -> dict[str, float]:
        """Returns the lanes at a pose (x, y, yaw) and what choosing each costs."""
        if self._tree is None:
            return {}
        near = self._tree.query_ball_point(point[:2], _MAX_LATERAL_M + _LANE_STEP_M)
        sample = self._points[near]
        delta = point[:2] - sample[:, :2]
        cos, sin = np.cos(sample[:, 2]), np.sin(sample[:, 2])
        along = cos * delta[:, 0] + sin * delta[:, 1]
        lateral = -sin * delta[:, 0] + cos * delta[:, 1]
        turn = wrap_angle(point[2] - sample[:, 2])
        fits = (np.abs(along) <= 0.75 * _LANE_STEP_M) & (np.abs(lateral) <= _MAX_LATERAL_M)
        fits &= np.abs(turn) <= _MAX_HEADING_RAD
        cost = 0.5 * ((lateral / _LATERAL_SIGMA_M) ** 2 + (turn / _HEADING_SIGMA_RAD) ** 2)
        best: dict[str, float] = {}
        for owner, value in zip(self._owners[near][fits], cost[fits], strict=True):
            key = self._keys[owner]
            best[key] = min(best.get(key, np.inf), float(value))
        return best

    def _cheapest(self, costs: list[dict[str, float]]) -> list[str] | None:
        """Finds the connected lane sequence of least cost (Viterbi 1967)."""
        total = dict(costs[0])
        history: list[dict[str, str]] = []
        for cost in costs[1:]:
            reached: dict[str, float] = {}
            origin: dict[str, str] = {}
            for key, value in total.items():
                for target, step in self._steps_from(key).items():
                    price = value + step.cost + cost.get(target, np.inf)
                    if price < reached.get(target, np.inf):
                        reached[target], origin[target] = price, key
            if not reached:
                return None
            total = reached
            history.append(origin)
        last = min(total, key=lambda key: total[key])
        chain = [last]
        for origin in reversed(history):
            chain.append(origin[chain[-1]])
        return self._joined(chain[::-1])

    def _joined(self, chain: list[str]) -> list[str]:
        """Drops repetitions and fills in lanes too short to hold a point of the path."""
        sequence = chain[:1]
        for key in chain[1:]:
            if key != sequence[-1]:
                sequence += [*self._steps_from(sequence[-1])[key].passed, key]
        return sequence

    def _steps_from(self, key: str) -> dict[str, _Step]:
        """Returns where one step of the path can lead from a lane."""
        if key not in self._steps:
            steps = self._onward(key, 0.0)
            for neighbor in (self._lanes[key].left_neighbor, self._lanes[key].right_neighbor):
                if neighbor is not None:
                    for target, step in self._onward(neighbor, _LANE_CHANGE_COST).items():
                        passed = step.passed if target == neighbor else (neighbor, *step.passed)
                        steps.setdefault(target, _Step(step.cost, passed))
            self._steps[key] = steps
        return self._steps[key]

    def _onward(self, key: str, cost: float) -> dict[str, _Step]:
        """Returns the lane itself, its successors, and theirs behind lanes shorter than a step."""
        found = {key: _Step(cost, ())}
        open_ends: list[tuple[str, tuple[str, ...], float]] = [(key, (), 0.0)]
        while open_ends:
            lane, passed, skipped_m = open_ends.pop()
            for target in self._lanes[lane].successors:
                if target in found:
                    continue
                found[target] = _Step(cost, passed)
                length_m = skipped_m + polyline_length(self._lanes[target].centerline_m)
                if length_m < 2.0 * _STEP_M:
                    open_ends.append((target, (*passed, target), length_m))
        return found

    def _continued(self, sequence: list[str]) -> list[str]:
        """Appends the straightest successors for at least `CONTINUATION_M`."""
        sequence, added_m = list(sequence), 0.0
        while added_m < CONTINUATION_M:
            onward = self._lanes[sequence[-1]].successors
            if not onward:
                break
            sequence.append(min(onward, key=lambda key: (_bend(self._lanes[key]), key)))
            added_m += polyline_length(self._lanes[sequence[-1]].centerline_m)
        return sequence


def route_along(lanes: Mapping[str, Lane], path: FloatArray) -> list[str] | None:
    """Returns the sequence of lanes that a path passes, continued straight on behind its end.

    It depends on the shape of the path alone: driving it faster or slower changes nothing.

    Args:
        lanes: Lane graph.
        path: (N, 3) driven x, y (metres, map frame) and yaw (radians), N >= 1.

    Returns:
        Lane ids, each a successor or a neighbour of the one before, or None if the path leaves the
        mapped lanes or their connections.
    """
    return LaneMatcher(lanes).match(path)


def route_points(lanes: Mapping[str, Lane], lane_ids: Sequence[str]) -> FloatArray:
    """Returns the (n, 3) centreline of a lane sequence, map frame.

    Where the sequence goes to a neighbour, the line crosses over right at the lane's start: where
    the driver changed is not part of a route, and a line that crossed later would lead drivers who
    changed early back to the lane they came from.
    """
    pieces: list[FloatArray] = []
    index = 0
    while index < len(lane_ids):
        run = [lane_ids[index]]
        while index + 1 < len(lane_ids) and _are_neighbors(lanes, run[-1], lane_ids[index + 1]):
            index += 1
            run.append(lane_ids[index])
        pieces.append(_crossing(lanes[run[0]].centerline_m, lanes[run[-1]].centerline_m))
        index += 1
    points = np.concatenate(pieces)
    apart = np.concatenate([[True], np.hypot(*np.diff(points[:, :2], axis=0).T) > 1e-3])
    route: FloatArray = points[apart]
    return route


def connect_by_endpoints(centerlines: Mapping[str, FloatArray]) -> dict[str, Lane]:
    """Builds a lane graph for maps that have centrelines but no topology.

    A lane follows another if it begins where that one ends and in its direction. Neighbours stay
    unknown.

    Args:
        centerlines: (n, 3) points in driving direction by lane id, n >= 2.
    """
    if not centerlines:
        return {}
    keys = list(centerlines)
    starts = cKDTree(np.array([centerlines[key][0, :2] for key in keys]))
    first = np.array([_heading(centerlines[key][0], centerlines[key][1]) for key in keys])
    lanes = {}
    for key in keys:
        line = centerlines[key]
        turn = first - _heading(line[-2], line[-1])
        near = starts.query_ball_point(line[-1, :2], _END_GAP_M)
        successors = sorted(
            keys[i] for i in near if abs(float(wrap_angle(turn[i]))) < _END_HEADING_RAD
        )
        lanes[key] = Lane(key, line, successors=tuple(k for k in successors if k != key))
    return lanes


def _resampled(line_m: FloatArray, step_m: float) -> FloatArray:
    """Returns (n, 3) x, y and heading at even distances along a polyline, its ends included."""
    steps = np.diff(line_m[:, :2], axis=0)
    lengths = np.hypot(*steps.T)
    moving = lengths > 1e-9
    if not moving.any():
        return np.array([[*line_m[0, :2], 0.0]])
    corners = np.concatenate([line_m[:1, :2], line_m[1:, :2][moving]])
    along = np.concatenate([[0.0], np.cumsum(lengths[moving])])
    heading = np.arctan2(steps[moving, 1], steps[moving, 0])
    grid = np.linspace(0.0, along[-1], max(2, int(np.ceil(along[-1] / step_m)) + 1))
    segment = np.clip(np.searchsorted(along, grid, side="right") - 1, 0, len(heading) - 1)
    x, y = (np.interp(grid, along, corners[:, axis]) for axis in (0, 1))
    return np.stack([x, y, heading[segment]], axis=-1)


def _resampled_poses(path: FloatArray) -> FloatArray:
    """Returns a (N, 3) path at even distances, so that its speeds do not matter."""
    along = distances_along(path)
    moving = np.concatenate([[True], np.diff(along) > 1e-6])
    along, poses = along[moving], path[moving]
    yaw = np.unwrap(poses[:, 2])
    grid = np.linspace(0.0, along[-1], int(np.ceil(along[-1] / _STEP_M)) + 1)
    x, y, yaw = (np.interp(grid, along, values) for values in (poses[:, 0], poses[:, 1], yaw))
    return np.stack([x, y, yaw], axis=-1)


def _heading(start: FloatArray, end: FloatArray) -> float:
    return float(np.arctan2(end[1] - start[1], end[0] - start[0]))


def _bend(lane: Lane) -> float:
    """Returns by how much a lane turns in all, radians."""
    line = lane.centerline_m
    turn = _heading(line[-2], line[-1]) - _heading(line[0], line[1])
    return abs(float(wrap_angle(turn)))


def _are_neighbors(lanes: Mapping[str, Lane], key: str, other: str) -> bool:
    return other in (lanes[key].left_neighbor, lanes[key].right_neighbor)


def _crossing(first_m: FloatArray, last_m: FloatArray) -> FloatArray:
    """Returns a line from the start of one lane to the end of another beside it."""
    if first_m is last_m:
        return first_m
    length_m = polyline_length(first_m)
    count = max(2, int(np.ceil(length_m / _LANE_STEP_M)))
    # On a lane shorter than that, over all of it.
    share = np.linspace(0.0, max(1.0, length_m / _CROSSING_M), count).clip(max=1.0)[:, None]
    crossing: FloatArray = (1.0 - share) * _even(first_m, count) + share * _even(last_m, count)
    return crossing


def _even(line_m: FloatArray, count: int) -> FloatArray:
    """Returns `count` points at even distances along a (n, 3) line."""
    along = distances_along(line_m)
    grid = np.linspace(0.0, along[-1], count)
    return np.stack([np.interp(grid, along, line_m[:, axis]) for axis in range(3)], axis=-1)
