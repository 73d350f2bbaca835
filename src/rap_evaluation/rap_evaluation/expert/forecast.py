"""Where road users will be, from what they do now: vehicles keep their speed along their lanes."""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.spatial import cKDTree

from rap_evaluation.metrics.pdm_scene import DT_S, AgentKind, Agents
from rap_evaluation.traffic.network import densified
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.vehicle import REAR_AXLE_TO_CENTER_SHARE

Array = npt.NDArray[Any]

FORECAST_STEPS = 51
"""Frames of a forecast: the horizon of a plan and 1 s for the time to collision."""

_MAX_LATERAL_M = 2.0  # Half a lane and a little: beyond it, it is no driver of this lane.
_MAX_HEADING_RAD = np.radians(40.0)
_LATERAL_SIGMA_M = 0.7
_HEADING_SIGMA_RAD = 0.25
_NEIGHBORS = 12  # Where connectors fan out, as many points lie at nearly the same place.
_CONVERGING_S = 3.0  # An offset from the centreline halves in about two seconds.
_MIN_ROD_M = 1.0  # Bicycles; at 3 s per 1 m of rod the steps of 0.1 s stay far from overshooting.


class FollowedLane(Protocol):
    """What forecasts need of a lane: `rap_raster.maps.vector_map.Lane`, `case_route.BlockLane`."""

    @property
    def centerline_m(self) -> FloatArray:
        """(n, 2 or more) x, y, ... in driving direction, map frame, n >= 2."""

    @property
    def successors(self) -> tuple[str, ...]:
        """Ids of the lanes that follow."""


def straight_on(agents: Agents) -> Agents:
    """Forecasts with constant velocity.

    Args:
        agents: Only frame 0 is looked at; who is absent there is left out.

    Returns:
        The agents present now, with `FORECAST_STEPS` frames.
    """
    present = np.flatnonzero(np.isfinite(agents.states[:, 0, 0]))
    now = agents.states[present, 0]
    states = np.repeat(now[:, None], FORECAST_STEPS, axis=1)
    states[..., :2] += DT_S * np.arange(FORECAST_STEPS)[:, None] * now[:, None, 3:5]
    return Agents(
        tokens=tuple(agents.tokens[i] for i in present),
        kinds=agents.kinds[present],
        sizes_m=agents.sizes_m[present],
        states=states,
    )


class LaneForecaster:
    """Forecasts along the lanes of one map; build it once and forecast many.

    All centrelines are points a metre apart, each knowing the next. At the end of a lane the next
    is the first point of the straightest lane on.
    """

    def __init__(self, lanes: Mapping[str, FollowedLane]) -> None:
        """Indexes the centrelines."""
        lines = [densified(lane.centerline_m[:, :2], 1.0) for lane in lanes.values()]
        counts = np.array([len(line) for line in lines])
        first = dict(zip(lanes, np.cumsum(counts) - counts, strict=True))
        self._points_m = np.concatenate(lines)
        self._next = np.arange(1, len(self._points_m) + 1)
        for lane, last in zip(lanes.values(), np.cumsum(counts) - 1, strict=True):
            self._next[last] = _straightest(lanes, lane, first)
        self._headings = _headings(self._points_m, self._next)
        self._tree = cKDTree(self._points_m)

    def __call__(self, agents: Agents) -> Agents:
        """Forecasts; see `straight_on`. Pedestrians and vehicles off the lanes go straight on."""
        forecast = straight_on(agents)
        states = forecast.states
        speeds = np.hypot(states[:, 0, 3], states[:, 0, 4])
        drives = np.isin(forecast.kinds, (AgentKind.VEHICLE, AgentKind.BICYCLE)) & (speeds > 0.5)
        rows = np.flatnonzero(drives)
        if len(rows):
            places = self._places(states[rows, 0])
            rods_m = np.maximum(REAR_AXLE_TO_CENTER_SHARE * forecast.sizes_m[rows, 0], _MIN_ROD_M)
            _along_lanes(self._points_m, self._next, self._headings, rows, places, rods_m, states)
        return replace(forecast, states=states)

    def _places(self, states: FloatArray) -> npt.NDArray[np.int64]:
        """Returns the point of a lane where each of (n, 5) states is, or -1."""
        neighbors = min(_NEIGHBORS, len(self._points_m))
        _, index = self._tree.query(states[:, :2], neighbors)
        delta = states[:, None, :2] - self._points_m[index]
        heading = self._headings[index]
        lateral = delta[..., 1] * np.cos(heading) - delta[..., 0] * np.sin(heading)
        along = delta[..., 0] * np.cos(heading) + delta[..., 1] * np.sin(heading)
        turn = wrap_angle(states[:, None, 2] - heading)
        cost = (lateral / _LATERAL_SIGMA_M) ** 2 + (turn / _HEADING_SIGMA_RAD) ** 2
        fits = (np.abs(lateral) < _MAX_LATERAL_M) & (np.abs(turn) < _MAX_HEADING_RAD)
        cost = np.where(fits & (np.abs(along) < 1.0), cost, np.inf)
        best = np.argmin(cost, axis=1)[:, None]
        found = np.take_along_axis(index, best, axis=1)[:, 0]
        return np.where(np.isfinite(np.take_along_axis(cost, best, axis=1)[:, 0]), found, -1)


def _straightest(
    lanes: Mapping[str, FollowedLane], lane: FollowedLane, first: Mapping[str, int]
) -> int:
    """Returns the first point of the straightest lane that follows, or -1."""
    onward: Sequence[str] = [key for key in lane.successors if key in lanes]
    if not onward:
        return -1
    return int(first[min(onward, key=lambda key: (_bend(lanes[key]), key))])


def _bend(lane: FollowedLane) -> float:
    """Returns by how much a lane turns in all, radians."""
    steps = np.diff(lane.centerline_m[[0, 1, -2, -1], :2], axis=0)
    first, last = np.arctan2(steps[[0, 2], 1], steps[[0, 2], 0])
    return abs(float(wrap_angle(last - first)))


def _headings(points_m: FloatArray, following: npt.NDArray[np.int64]) -> FloatArray:
    """Returns the direction from each point to the next; last points keep that before them."""
    step = points_m[np.maximum(following, 0)] - points_m
    headings = np.arctan2(step[:, 1], step[:, 0])
    stuck = np.flatnonzero((following < 0) | (np.hypot(*step.T) < 1e-3))
    headings[stuck] = headings[stuck - 1]
    return headings


@njit(cache=True, nogil=True)
def _along_lanes(
    points: Array, following: Array, headings: Array, rows: Array, places: Array, rods: Array,
    states: Array,
) -> None:  # fmt: skip
    """Moves box centres along lanes at constant speed, their offset from the centreline fading.

    The rear axle is towed behind the centre by a rod, as recorded traffic has it: the box of a
    bus swings out in a bend.
    """
    for i in range(len(rows)):
        row, place = rows[i], places[i]
        if place < 0:
            continue
        x, y, heading, vx, vy = states[row, 0]
        speed = np.hypot(vx, vy)
        cos, sin = np.cos(headings[place]), np.sin(headings[place])
        dx, dy = x - points[place, 0], y - points[place, 1]
        rest, offset = dx * cos + dy * sin, dy * cos - dx * sin
        for t in range(1, states.shape[1]):
            place, rest = _advance(points, following, place, rest + speed * DT_S)
            fading = offset * np.exp(-t * DT_S / _CONVERGING_S)
            cos, sin = np.cos(headings[place]), np.sin(headings[place])
            states[row, t, 0] = points[place, 0] + rest * cos - fading * sin
            states[row, t, 1] = points[place, 1] + rest * sin + fading * cos
            dx = states[row, t, 0] - states[row, t - 1, 0]
            dy = states[row, t, 1] - states[row, t - 1, 1]
            heading += (dy * np.cos(heading) - dx * np.sin(heading)) / rods[i]
            states[row, t, 2] = heading
            states[row, t, 3], states[row, t, 4] = speed * cos, speed * sin


@njit(cache=True, nogil=True)
def _advance(points: Array, following: Array, place: int, rest: float) -> tuple[int, float]:
    """Returns the last point of a lane before a distance from another, and what is left of it."""
    while following[place] >= 0:
        onward = following[place]
        length = np.hypot(
            points[onward, 0] - points[place, 0], points[onward, 1] - points[place, 1]
        )
        if rest < length:
            break
        rest -= length
        place = onward
    return place, rest
