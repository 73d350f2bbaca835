"""Compiled checks of a vehicle's footprint against road users, the road's edge and areas.

Touching counts as meeting everywhere: what is said to be clear is clear.
"""

# ruff: noqa: PLR0917 - numba wants arguments by position.

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]


class Footprint(NamedTuple):
    """The box of a vehicle around its rear axle."""

    center_m: float
    half_length_m: float
    half_width_m: float


class Traffic(NamedTuple):
    """Tracks of a log, as of `rap_evaluation.logs.recording.Tracks`."""

    first_steps: Array
    last_steps: Array
    offsets: Array
    states: Array
    sizes_m: Array


@njit(cache=True, nogil=True)
def meets_traffic(
    poses: Array,
    heights_m: Array,
    footprint: Footprint,
    traffic: Traffic,
    rows: Array,
    step: int,
    level_m: float,
) -> bool:
    """True if a vehicle touches one of some tracks at one of its steps.

    Args:
        poses: (n, >= 3) x, y, yaw of its rear axle.
        heights_m: (n,) of the ground below it.
        footprint: Its box.
        traffic: All tracks.
        rows: Those to look at.
        step: Of the log, of the first pose.
        level_m: What is that much higher or lower is on another road.
    """
    own_reach = footprint.half_length_m + footprint.half_width_m
    for t in range(len(poses)):
        cos, sin = math.cos(poses[t, 2]), math.sin(poses[t, 2])
        x, y = poses[t, 0] + footprint.center_m * cos, poses[t, 1] + footprint.center_m * sin
        for row in rows:
            if not traffic.first_steps[row] <= step + t <= traffic.last_steps[row]:
                continue
            at = traffic.offsets[row] + step + t - traffic.first_steps[row]
            dx, dy = traffic.states[at, 0] - x, traffic.states[at, 1] - y
            half_l, half_w = 0.5 * traffic.sizes_m[row, 0], 0.5 * traffic.sizes_m[row, 1]
            reach = half_l + half_w + own_reach
            if dx * dx + dy * dy > reach * reach:
                continue
            if abs(traffic.states[at, 2] - heights_m[t]) < level_m and _boxes_meet(
                dx, dy, cos, sin, footprint, traffic.states[at, 3], half_l, half_w
            ):
                return True
    return False


@njit(cache=True, nogil=True)
def _boxes_meet(
    dx: float,
    dy: float,
    cos: float,
    sin: float,
    own: Footprint,
    yaw: float,
    half_l: float,
    half_w: float,
) -> bool:
    """True if no side of either of two boxes separates them.

    Args:
        dx: From the center of one's own box to that of the other.
        dy: Likewise.
        cos: Of the heading of one's own.
        sin: Likewise.
        own: One's own box.
        yaw: Heading of the other.
        half_l: Half the length of the other.
        half_w: Half its width.
    """
    cos_o, sin_o = math.cos(yaw), math.sin(yaw)
    c, s = abs(cos * cos_o + sin * sin_o), abs(cos * sin_o - sin * cos_o)
    meets: bool = (
        abs(dx * cos + dy * sin) <= own.half_length_m + half_l * c + half_w * s
        and abs(dy * cos - dx * sin) <= own.half_width_m + half_l * s + half_w * c
        and abs(dx * cos_o + dy * sin_o) <= half_l + own.half_length_m * c + own.half_width_m * s
        and abs(dy * cos_o - dx * sin_o) <= half_w + own.half_length_m * s + own.half_width_m * c
    )
    return meets


@njit(cache=True, nogil=True)
def leaves_road(poses: Array, footprint: Footprint, edges: Array) -> bool:
    """True if a vehicle is not wholly within an area at one of its poses.

    It is within if it starts in the area and its box never touches the border: boxes of
    neighbouring poses overlap as long as no step is longer than the vehicle.

    Args:
        poses: (n, >= 3) x, y, yaw of its rear axle.
        footprint: Its box.
        edges: (E, 4) x, y of both ends of all edges of the area's border, holes included.
    """
    leaves = not _inside(poses[0], footprint, edges)
    for touches in touching(poses, footprint, edges):
        leaves |= touches
    return leaves


@njit(cache=True, nogil=True)
def _inside(pose: Array, footprint: Footprint, edges: Array) -> bool:
    """True if the center of a vehicle is inside a border: a ray from it crosses an odd number."""
    x = pose[0] + footprint.center_m * math.cos(pose[2])
    y = pose[1] + footprint.center_m * math.sin(pose[2])
    inside = False
    for e in range(len(edges)):
        x0, y0, x1, y1 = edges[e]
        if (y0 <= y) != (y1 <= y) and ((x1 - x0) * (y - y0) > (x - x0) * (y1 - y0)) == (y1 > y0):
            inside = not inside
    return inside


@njit(cache=True, nogil=True)
def touching(poses: Array, footprint: Footprint, edges: Array) -> Array:
    """Returns (n,) True where the box of a vehicle touches one of some edges."""
    reach = footprint.center_m + math.hypot(footprint.half_length_m, footprint.half_width_m)
    low_x, high_x, low_y, high_y = math.inf, -math.inf, math.inf, -math.inf
    for t in range(len(poses)):
        low_x, high_x = min(low_x, poses[t, 0] - reach), max(high_x, poses[t, 0] + reach)
        low_y, high_y = min(low_y, poses[t, 1] - reach), max(high_y, poses[t, 1] + reach)
    touches = np.zeros(len(poses), np.bool_)
    for e in range(len(edges)):
        x0, y0, x1, y1 = edges[e]
        if min(x0, x1) > high_x or max(x0, x1) < low_x:
            continue
        if min(y0, y1) > high_y or max(y0, y1) < low_y:
            continue
        for t in range(len(poses)):
            touches[t] |= _edge_meets(edges[e], poses[t], footprint)
    return touches


@njit(cache=True, nogil=True)
def _edge_meets(edge: Array, pose: Array, footprint: Footprint) -> bool:
    """True if an edge touches a box: neither a side of the box nor the edge separates them."""
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    half_l, half_w = footprint.half_length_m, footprint.half_width_m
    dx, dy = edge[0] - pose[0], edge[1] - pose[1]
    x0, y0 = dx * cos + dy * sin - footprint.center_m, dy * cos - dx * sin
    dx, dy = edge[2] - pose[0], edge[3] - pose[1]
    x1, y1 = dx * cos + dy * sin - footprint.center_m, dy * cos - dx * sin
    meets: bool = (
        max(x0, x1) >= -half_l
        and min(x0, x1) <= half_l
        and max(y0, y1) >= -half_w
        and min(y0, y1) <= half_w
        and abs(x0 * y1 - x1 * y0) <= half_l * abs(y1 - y0) + half_w * abs(x1 - x0)
    )
    return meets


@njit(cache=True, nogil=True)
def in_area(poses: Array, footprint: Footprint, edges: Array) -> Array:
    """Returns (n,) True where the box of a vehicle touches an area; `edges` are its border."""
    touches = touching(poses, footprint, edges)
    for t in range(len(poses)):
        touches[t] |= _inside(poses[t], footprint, edges)
    return touches
