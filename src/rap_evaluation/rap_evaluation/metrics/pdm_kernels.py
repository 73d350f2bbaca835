"""Compiled geometry of the PDM score: points in areas, boxes against boxes, lines and areas.

`contains` is strict and `intersects` counts touching, as in shapely, which the official code uses.
"""

# ruff: noqa: PLR0917 - numba wants arguments by position.

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from rap_evaluation.metrics.pdm_scene import DT_S, AgentKind, Area, StateIndex
from rap_raster.vehicle import PACIFICA

Array = npt.NDArray[Any]

_CENTER_M = PACIFICA.rear_axle_to_center_m
_HALF_LENGTH_M, _HALF_WIDTH_M = PACIFICA.length_m / 2, PACIFICA.width_m / 2

_X, _Y, _HEADING = int(StateIndex.X), int(StateIndex.Y), int(StateIndex.HEADING)
_VX, _VY = int(StateIndex.VX), int(StateIndex.VY)
_INTERSECTION, _LANE = int(Area.INTERSECTION), int(Area.LANE)
_STATIC = int(AgentKind.STATIC)

_EDGES_PER_SLAB = 3
_STOPPED_MPS = 0.05
_TTC_STOPPED_MPS = 0.005
_AHEAD_RAD, _BEHIND_RAD = math.radians(30.0), math.radians(150.0)
_TTC_LOOK_AHEAD = (0, 3, 6, 9)
"""Steps. Source of these: NAVSIM, `pdm_scorer.py` and `pdm_scorer_utils.py`."""

NEVER = 1_000_000
"""Step of what does not happen."""

MULTIPLE_LANES, NON_DRIVABLE, ONCOMING, AXLE_IN_JUNCTION, CENTER_IN_JUNCTION = range(5)
"""Columns of `ego_areas`."""


class AreaIndex(NamedTuple):
    """P polygons, the edges of each sorted into slabs along y so that few must be looked at.

    Attributes:
        kinds: (P,) `Area` codes.
        on_route: (P,) True for lanes and connectors of the route.
        bounds: (P, 4) lowest x, y, highest x, y.
        slabs: (P + 1,) where the slabs of each polygon start.
        starts: (S + 1,) where the edges of each slab start.
        edges: (E, 4) x, y of one end and the other.
    """

    kinds: Array
    on_route: Array
    bounds: Array
    slabs: Array
    starts: Array
    edges: Array


@njit(cache=True, nogil=True)
def index_areas(kinds: Array, on_route: Array, offsets: Array, points: Array) -> AreaIndex:
    """Builds the index of an `AreaMap`."""
    count = len(offsets) - 1
    bounds, slabs = np.empty((count, 4)), np.zeros(count + 1, np.int64)
    for p in range(count):
        ring = points[offsets[p] : offsets[p + 1]]
        for axis in range(2):
            bounds[p, axis], bounds[p, 2 + axis] = ring[:, axis].min(), ring[:, axis].max()
        slabs[p + 1] = slabs[p] + 1 + len(ring) // _EDGES_PER_SLAB
    starts = np.zeros(slabs[-1] + 1, np.int64)
    for p in range(count):
        ring = points[offsets[p] : offsets[p + 1]]
        for k in range(len(ring)):
            first, last = _slab_range(ring[k - 1, 1], ring[k, 1], bounds[p], slabs, p)
            starts[first + 1 : last + 2] += 1
    starts = np.cumsum(starts)
    filled, edges = starts.copy(), np.empty((starts[-1], 4))
    for p in range(count):
        ring = points[offsets[p] : offsets[p + 1]]
        for k in range(len(ring)):
            first, last = _slab_range(ring[k - 1, 1], ring[k, 1], bounds[p], slabs, p)
            for slab in range(first, last + 1):
                edges[filled[slab], :2], edges[filled[slab], 2:] = ring[k - 1], ring[k]
                filled[slab] += 1
    return AreaIndex(kinds, on_route, bounds, slabs, starts, edges)


@njit(cache=True, nogil=True)
def _slab_range(y0: float, y1: float, bounds: Array, slabs: Array, p: int) -> tuple[int, int]:
    return (
        _slab_at(min(y0, y1), bounds, slabs, p),
        _slab_at(max(y0, y1), bounds, slabs, p),
    )


@njit(cache=True, nogil=True, inline="always")
def _slab_at(y: float, bounds: Array, slabs: Array, p: int) -> int:
    count, height = slabs[p + 1] - slabs[p], bounds[3] - bounds[1]
    if height <= 0.0:
        return int(slabs[p])
    return int(slabs[p] + min(count - 1, int(count * (y - bounds[1]) / height)))


@njit(cache=True, nogil=True, inline="always")
def _contains(areas: AreaIndex, p: int, x: float, y: float) -> bool:
    """True if a point lies inside a polygon, not on its border.

    It is inlined, since numba counts the references of every array that is passed on.
    """
    bounds = areas.bounds[p]
    if not (bounds[0] < x < bounds[2] and bounds[1] < y < bounds[3]):
        return False
    slab = _slab_at(y, bounds, areas.slabs, p)
    inside = False
    for e in range(areas.starts[slab], areas.starts[slab + 1]):
        x0, y0, x1, y1 = areas.edges[e]
        if y < min(y0, y1) or y > max(y0, y1):
            continue
        side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
        if side == 0.0 and min(x0, x1) <= x <= max(x0, x1):
            return False
        if (y0 <= y) != (y1 <= y) and (side > 0.0) == (y1 > y0):
            inside = not inside
    return inside


@njit(cache=True, nogil=True)
def ego_areas(areas: AreaIndex, states: Array) -> Array:
    """Returns (C, T, 5) bool: in which areas the ego is, see the names of the columns."""
    count, steps, _ = states.shape
    flags = np.zeros((count, steps, 5), np.bool_)
    near = np.empty(len(areas.kinds), np.int64)
    reach = math.hypot(_HALF_LENGTH_M, _HALF_WIDTH_M) + _CENTER_M
    for c in range(count):
        low_x, low_y = states[c, :, _X].min() - reach, states[c, :, _Y].min() - reach
        high_x, high_y = states[c, :, _X].max() + reach, states[c, :, _Y].max() + reach
        found = 0
        for p in range(len(areas.kinds)):
            b = areas.bounds[p]
            if b[0] < high_x and b[2] > low_x and b[1] < high_y and b[3] > low_y:
                near[found] = p
                found += 1
        for t in range(steps):
            _areas_at(areas, near[:found], states[c, t], flags[c, t])
    return flags


@njit(cache=True, nogil=True)
def _areas_at(areas: AreaIndex, near: Array, state: Array, flags: Array) -> None:
    """Sets the flags of one state."""
    cx, cy, cos, sin = ego_box(state)
    corners = box_corners(cx, cy, cos, sin)
    lanes, in_one, on_route, drivable = 0, False, False, 0
    for p in near:
        kind = areas.kinds[p]
        is_lane = kind >= _LANE
        inside = 0
        if not (in_one if is_lane else drivable == 15):  # More of them would change nothing.
            for k in range(4):
                if _contains(areas, p, corners[k, 0], corners[k, 1]):
                    inside |= 1 << k
        if is_lane:
            lanes += inside != 0
            in_one |= inside == 15
            if areas.on_route[p] and not on_route:
                on_route = _contains(areas, p, cx, cy)
        else:
            drivable |= inside
        if kind == _INTERSECTION:
            flags[AXLE_IN_JUNCTION] |= _contains(areas, p, state[_X], state[_Y])
            flags[CENTER_IN_JUNCTION] |= _contains(areas, p, cx, cy)
    flags[MULTIPLE_LANES] = lanes > 1 and not in_one
    flags[NON_DRIVABLE] = drivable != 15
    flags[ONCOMING] = not on_route


@njit(cache=True, nogil=True)
def ego_box(state: Array) -> tuple[float, float, float, float]:
    """Returns centre x, y and cosine and sine of the heading of the ego's box."""
    cos, sin = math.cos(state[_HEADING]), math.sin(state[_HEADING])
    return state[_X] + _CENTER_M * cos, state[_Y] + _CENTER_M * sin, cos, sin


@njit(cache=True, nogil=True)
def box_corners(x: float, y: float, cos: float, sin: float) -> Array:
    """Returns the (4, 2) corners of the ego's box: front left, rear left, rear right, front."""
    corners = np.empty((4, 2))
    for k in range(4):
        along = _HALF_LENGTH_M if k in (0, 3) else -_HALF_LENGTH_M
        left = _HALF_WIDTH_M if k < 2 else -_HALF_WIDTH_M
        corners[k, 0] = x + along * cos - left * sin
        corners[k, 1] = y + along * sin + left * cos
    return corners


@njit(cache=True, nogil=True)
def _meets_agent(x: float, y: float, cos: float, sin: float, agent: Array, size: Array) -> bool:
    """True if the ego's box and an agent's touch: no side of either separates them."""
    dx, dy = agent[0] - x, agent[1] - y
    half_l, half_w = size[0] / 2, size[1] / 2
    reach = half_l + half_w + _HALF_LENGTH_M + _HALF_WIDTH_M
    if not dx * dx + dy * dy <= reach * reach:  # Also where the agent is absent: NaN.
        return False
    cos_a, sin_a = math.cos(agent[2]), math.sin(agent[2])
    c, s = abs(cos * cos_a + sin * sin_a), abs(cos * sin_a - sin * cos_a)
    meets: bool = (
        abs(dx * cos + dy * sin) <= _HALF_LENGTH_M + half_l * c + half_w * s
        and abs(dy * cos - dx * sin) <= _HALF_WIDTH_M + half_l * s + half_w * c
        and abs(dx * cos_a + dy * sin_a) <= half_l + _HALF_LENGTH_M * c + _HALF_WIDTH_M * s
        and abs(dy * cos_a - dx * sin_a) <= half_w + _HALF_LENGTH_M * s + _HALF_WIDTH_M * c
    )
    return meets


@njit(cache=True, nogil=True)
def _crosses_box(x0: float, y0: float, x1: float, y1: float, half_l: float, half_w: float) -> bool:
    """True if a segment touches the box around the origin, by clipping it against the sides."""
    first, last = 0.0, 1.0
    for start, step, half in ((x0, x1 - x0, half_l), (y0, y1 - y0, half_w)):
        if step == 0.0:
            if abs(start) > half:
                return False
            continue
        a, b = (-half - start) / step, (half - start) / step
        first, last = max(first, min(a, b)), min(last, max(a, b))
    return first <= last


@njit(cache=True, nogil=True)
def _front_meets_agent(corners: Array, agent: Array, size: Array) -> bool:
    """True if the ego's front edge touches an agent's box."""
    cos, sin = math.cos(agent[2]), math.sin(agent[2])
    ends = np.empty(4)
    for end in range(2):
        dx, dy = corners[3 * end, 0] - agent[0], corners[3 * end, 1] - agent[1]
        ends[2 * end], ends[2 * end + 1] = dx * cos + dy * sin, dy * cos - dx * sin
    return _crosses_box(ends[0], ends[1], ends[2], ends[3], size[0] / 2, size[1] / 2)


@njit(cache=True, nogil=True)
def _bearing(state: Array, agent: Array) -> float:
    """Returns the angle between the ego's heading and an agent's centre, from the rear axle."""
    turn = math.atan2(agent[1] - state[_Y], agent[0] - state[_X]) - state[_HEADING]
    bearing: float = abs((turn + math.pi) % (2.0 * math.pi) - math.pi)
    return bearing


@njit(cache=True, nogil=True)
def initial_overlaps(state: Array, agents: Array, sizes: Array) -> Array:
    """Returns (N,) True for the agents whose boxes touch the ego's at step 0."""
    x, y, cos, sin = ego_box(state)
    overlaps = np.zeros(len(agents), np.bool_)
    for n in range(len(agents)):
        overlaps[n] = _meets_agent(x, y, cos, sin, agents[n, 0], sizes[n])
    return overlaps


@njit(cache=True, nogil=True)
def _first_speeds(agents: Array) -> Array:
    """Returns the (N,) speeds of agents in the first frame in which each appears."""
    speeds = np.zeros(len(agents))
    for n in range(len(agents)):
        for t in range(agents.shape[1]):
            if not math.isnan(agents[n, t, 0]):
                speeds[n] = math.hypot(agents[n, t, 3], agents[n, t, 4])
                break
    return speeds


@njit(cache=True, nogil=True)
def collisions(
    states: Array, areas: Array, agents: Array, kinds: Array, sizes: Array
) -> tuple[Array, Array]:
    """NC: finds contacts at all steps and who is at fault.

    The ego is at fault, while it moves, for meeting what stands (static objects, and agents that
    stood when they first appeared), for meeting anything with its front edge, and for any other
    contact but from behind (over 150 degrees) while it is between lanes or off the road. An agent
    met without fault is left out from then on. Source: NAVSIM, `pdm_scorer.py:363-420`.

    Args:
        states: (C, T, 11).
        areas: (C, T, 5) of `ego_areas`.
        agents: (N, T', 5) x, y, heading, vx, vy; the last frame holds.
        kinds: (N,) `AgentKind` codes.
        sizes: (N, 2) length, width.

    Returns:
        score: (C,) 0 after a fault with a road user, 0.5 with a static object, else 1.
        first: (C,) step of the first contact at fault, or `NEVER`.
    """
    count, steps, _ = states.shape
    score, first = np.ones(count), np.full(count, NEVER, np.int64)
    speeds = _first_speeds(agents)
    for c in range(count):
        left_out = np.zeros(len(agents), np.bool_)
        for t in range(steps):
            state = states[c, t]
            x, y, cos, sin = ego_box(state)
            doubtful = areas[c, t, MULTIPLE_LANES] or areas[c, t, NON_DRIVABLE]
            for n in range(len(agents)):
                agent = agents[n, min(t, agents.shape[1] - 1)]
                if left_out[n] or not _meets_agent(x, y, cos, sin, agent, sizes[n]):
                    continue
                stopped = kinds[n] == _STATIC or speeds[n] <= _STOPPED_MPS
                if _at_fault(state, doubtful, agent, sizes[n], stopped):
                    score[c] = min(score[c], 0.5 if kinds[n] == _STATIC else 0.0)
                    first[c] = min(first[c], t)
                else:
                    left_out[n] = True
    return score, first


@njit(cache=True, nogil=True)
def _at_fault(state: Array, doubtful: bool, agent: Array, size: Array, stopped: bool) -> bool:
    if math.hypot(state[_VX], state[_VY]) <= _STOPPED_MPS:
        return False
    if stopped:
        return True
    if _bearing(state, agent) > _BEHIND_RAD:
        return False
    x, y, cos, sin = ego_box(state)
    return _front_meets_agent(box_corners(x, y, cos, sin), agent, size) or doubtful


@njit(cache=True, nogil=True)
def times_to_collision(
    states: Array, areas: Array, agents: Array, sizes: Array, last: int
) -> Array:
    """TTC: returns the (C,) first steps at which a contact is foreseen, or `NEVER`.

    The ego's box is moved on at its velocity to 0, 0.3, 0.6 and 0.9 s later, where agents will be.
    What counts is an agent ahead (below 30 degrees) and, while the ego is between lanes, off the
    road or with its rear axle in an intersection, any that is not behind. Others that are met are
    left out from then on. Source: NAVSIM, `pdm_scorer.py:414-498` (v1).

    Args:
        states: (C, T, 11).
        areas: (C, T, 5) of `ego_areas`.
        agents: (N, T', 5); the last frame holds.
        sizes: (N, 2).
        last: Last step looked at.
    """
    first = np.full(len(states), NEVER, np.int64)
    for c in range(len(states)):
        left_out = np.zeros(len(agents), np.bool_)
        for t in range(last + 1):
            speed = math.hypot(states[c, t, _VX], states[c, t, _VY])
            if speed < _TTC_STOPPED_MPS:
                continue
            if _contact_ahead(states[c, t], speed, t, areas[c, t], agents, sizes, left_out):
                first[c] = t
                break
    return first


@njit(cache=True, nogil=True)
def _contact_ahead(
    state: Array, speed: float, t: int, areas: Array, agents: Array, sizes: Array, left_out: Array
) -> bool:
    """True if the ego at constant velocity meets an agent it has to mind; others are left out."""
    x, y, cos, sin = ego_box(state)
    doubtful = areas[MULTIPLE_LANES] or areas[NON_DRIVABLE] or areas[AXLE_IN_JUNCTION]
    for steps in _TTC_LOOK_AHEAD:
        moved = speed * DT_S * steps
        for n in range(len(agents)):
            agent = agents[n, min(t + steps, agents.shape[1] - 1)]
            if left_out[n] or not _meets_agent(
                x + moved * cos, y + moved * sin, cos, sin, agent, sizes[n]
            ):
                continue
            bearing = _bearing(state, agent)
            if bearing < _AHEAD_RAD or (doubtful and not bearing > _BEHIND_RAD):
                return True
            left_out[n] = True
    return False


@njit(cache=True, nogil=True)
def red_lights_run(
    states: Array, offsets: Array, points: Array, closed: Array, red: Array
) -> Array:
    """Returns (C,) True where the ego's box touches a connector of the route while it is red.

    Args:
        states: (C, T, 11).
        offsets: (P + 1,) of all polygons of the map.
        points: (M, 2).
        closed: (R,) polygons with lights.
        red: (R, T) their states; the last one holds.
    """
    run = np.zeros(len(states), np.bool_)
    for c in range(len(states)):
        for t in range(states.shape[1]):
            for r in range(len(closed)):
                if red[r, min(t, red.shape[1] - 1)] and not run[c]:
                    ring = points[offsets[closed[r]] : offsets[closed[r] + 1]]
                    run[c] = _touches_ring(states[c, t], ring)
    return run


@njit(cache=True, nogil=True)
def _touches_ring(state: Array, ring: Array) -> bool:
    """True if the ego's box touches a polygon: an edge meets it, or its centre is inside."""
    x, y, cos, sin = ego_box(state)
    inside = False
    dx, dy = ring[-1, 0] - x, ring[-1, 1] - y
    x0, y0 = dx * cos + dy * sin, dy * cos - dx * sin
    for k in range(len(ring)):
        dx, dy = ring[k, 0] - x, ring[k, 1] - y
        x1, y1 = dx * cos + dy * sin, dy * cos - dx * sin
        if _crosses_box(x0, y0, x1, y1, _HALF_LENGTH_M, _HALF_WIDTH_M):
            return True
        if (y0 <= 0.0) != (y1 <= 0.0) and (x1 * y0 < x0 * y1) == (y1 > y0):
            inside = not inside
        x0, y0 = x1, y1
    return inside


@njit(cache=True, nogil=True)
def along_line(line: Array, points: Array) -> tuple[Array, Array]:
    """Projects points on a polyline.

    Args:
        line: (n, >= 2) x, y, ...
        points: (m, 2).

    Returns:
        (m,) distance along the line to the nearest place on it, and (m,) distance from it.
    """
    steps = line[1:, :2] - line[:-1, :2]
    squares = steps[:, 0] ** 2 + steps[:, 1] ** 2
    starts = np.cumsum(np.sqrt(squares)) - np.sqrt(squares)
    along, distance = np.zeros(len(points)), np.zeros(len(points))
    for k in range(len(points)):
        nearest, best, best_share = 0, np.inf, 0.0
        for i in range(len(steps)):
            dx, dy = points[k, 0] - line[i, 0], points[k, 1] - line[i, 1]
            share = dx * steps[i, 0] + dy * steps[i, 1]
            share = min(1.0, max(0.0, share / squares[i])) if squares[i] > 0.0 else 0.0
            ex, ey = dx - share * steps[i, 0], dy - share * steps[i, 1]
            square = ex * ex + ey * ey
            if square < best:
                nearest, best, best_share = i, square, share
        along[k] = starts[nearest] + best_share * math.sqrt(squares[nearest])
        distance[k] = math.sqrt(best)
    return along, distance


@njit(cache=True, nogil=True)
def longest_runs(flags: Array, counted: Array) -> Array:
    """Returns the (C,) longest runs of True in (C, T) flags, over the steps that are counted."""
    longest = np.zeros(len(flags), np.int64)
    for c in range(len(flags)):
        run = 0
        for t in range(flags.shape[1]):
            if counted[c, t]:
                run = run + 1 if flags[c, t] else 0
                longest[c] = max(longest[c], run)
    return longest
