"""The driving command: what a route asks for next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from rap_raster.frames import FloatArray, Pose, to_local, wrap_angle

LOOK_AHEAD_M = 20.0
"""How far along the route the command looks. Source: RAP release, `driving_command.py`."""

LATERAL_M = 2.0
"""Lateral offset from which the command is a turn. Source: RAP release, `driving_command.py`."""

OFF_ROUTE_M = 10.0
"""Farther from the route than two lanes and a half, its direction says nothing about here."""

MAX_HEADING_RAD = np.pi / 2
"""Route pieces that lead against the vehicle's heading belong to another road."""

_NO_LENGTH = np.finfo(np.float64).tiny
"""Pieces whose squared length is less lead nowhere: points may be repeated."""


class Command(IntEnum):
    """The driving command of the ROS contract (`command`, std_msgs/UInt8)."""

    LEFT = 0
    STRAIGHT = 1
    RIGHT = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Guidance:
    """Where the vehicle is to go.

    Attributes:
        command: What comes next.
        source: Where the command came from: "command", "route" or "none".
        route_m: (n, >=2) route points in driving order, map frame; None without a route, or where
            a command was given that may contradict it.
    """

    command: Command
    source: str
    route_m: npt.NDArray[np.float64] | None = None

    @classmethod
    def along(cls, route_m: npt.NDArray[np.float64], pose: Pose) -> Guidance:
        """Returns the guidance of a route at a pose."""
        return cls(command_from_route(route_m, pose), "route", route_m)


NO_GUIDANCE = Guidance(Command.UNKNOWN, "none")


def command_from_route(route_m: npt.NDArray[np.float64] | None, pose: Pose) -> Command:
    """Derives the command from the route ahead of a pose.

    The ego is projected on the nearest piece of the route that leads its way; the point
    `LOOK_AHEAD_M` further along decides by its lateral offset in the ego frame.

    Args:
        route_m: (n, >=2) route points in driving order, map frame; None where there is no route.
        pose: Where the ego is.

    Returns:
        UNKNOWN without a route, off the route, or within `LOOK_AHEAD_M` of its end.
    """
    if route_m is None or len(route_m) < 2:
        return Command.UNKNOWN
    projection = _project(np.asarray(route_m[:, :2], dtype=np.float64), pose)
    if projection is None:
        return Command.UNKNOWN
    local, along_m, arc_m = projection
    target_m = along_m + LOOK_AHEAD_M
    if target_m > arc_m[-1]:
        return Command.UNKNOWN
    lateral_m = float(np.interp(target_m, arc_m, local[:, 1]))
    if lateral_m >= LATERAL_M:
        return Command.LEFT
    if lateral_m <= -LATERAL_M:
        return Command.RIGHT
    return Command.STRAIGHT


def route_ahead(
    route_m: npt.NDArray[np.float64] | None, pose: Pose, points: int, spacing_m: float
) -> npt.NDArray[np.float32]:
    """Returns the route ahead of a pose as the planner network reads it.

    Args:
        route_m: (n, >=2) route points in driving order, map frame; None where there is no route.
        pose: Where the ego is.
        points: R.
        spacing_m: Along the route. The first point is where the ego is on it: the nearest one.

    Returns:
        (R, 3) x, y in the ego frame, and 1; all zero past the route's end, without a route, and
        off the route.
    """
    rows = np.zeros((points, 3), dtype=np.float32)
    if route_m is None or len(route_m) < 2:
        return rows
    projection = _project(np.asarray(route_m[:, :2], dtype=np.float64), pose)
    if projection is None:
        return rows
    local, along_m, arc_m = projection
    targets_m = along_m + spacing_m * np.arange(points)
    known = targets_m <= arc_m[-1]
    for axis in (0, 1):
        rows[known, axis] = np.interp(targets_m[known], arc_m, local[:, axis])
    rows[known, 2] = 1.0
    return rows


def _project(route_m: FloatArray, pose: Pose) -> tuple[FloatArray, float, FloatArray] | None:
    """Returns ego-frame route points, arc length of the projection, and arc lengths."""
    headed = np.concatenate([route_m, np.zeros((len(route_m), 1))], axis=1)
    local = to_local([pose.x_m, pose.y_m, pose.yaw_rad], headed)[:, :2]
    starts, steps = local[:-1], np.diff(local, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    squares = lengths**2
    share = np.clip(-(starts * steps).sum(1) / np.maximum(squares, _NO_LENGTH), 0.0, 1.0)
    distance = np.linalg.norm(starts + share[:, None] * steps, axis=1)
    heading = np.abs(wrap_angle(np.arctan2(steps[:, 1], steps[:, 0])))
    distance[(heading > MAX_HEADING_RAD) | (squares < _NO_LENGTH)] = np.inf
    nearest = int(np.argmin(distance))
    if distance[nearest] > OFF_ROUTE_M:
        return None
    arc_m = np.concatenate([[0.0], np.cumsum(lengths)])
    return local, float(arc_m[nearest] + share[nearest] * lengths[nearest]), arc_m
