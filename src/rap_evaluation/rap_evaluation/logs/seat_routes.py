"""Routes and driving commands of all seats of a recording."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rap_evaluation.logs.ego_motion import at_rear_axle
from rap_evaluation.logs.recording import SEAT_CLASSES, Recording
from rap_planner.route import Command, command_from_route
from rap_raster.frames import FloatArray, Pose
from rap_raster.maps.lane_geometry import distances_along
from rap_raster.maps.routing import LaneMatcher, route_points

MIN_TRAVEL_M = 5.0
"""A seat that moves less has no route: where it would have gone is not known."""

AHEAD_M, BEHIND_M = 80.0, 20.0
"""Stretch of the route that planners are shown: four times the command's look-ahead, and behind."""

_STEP_M = 1.0  # Between points of the route that progress is measured on.
_MOVED_M = 1.0  # Within one point of the route, and
_TURNED_RAD = 0.05  # 1 m at the command's look-ahead of 20 m, a command holds.
_SEARCH_M = 15.0  # Progress within one step of the log: more than any vehicle drives in it.


def routes_and_commands(
    recording: Recording,
) -> tuple[dict[int, list[str]], npt.NDArray[np.uint8]]:
    """Returns lane ids per seat that has a route, and a command for every state of every track.

    Where there is no route, commands are those the source knew, else UNKNOWN.
    """
    tracks, lanes = recording.tracks, recording.map.lanes
    commands = _known_commands(recording)
    routes: dict[int, list[str]] = {}
    if not lanes:
        return routes, commands
    matcher = LaneMatcher(lanes)
    for row in np.flatnonzero(np.isin(tracks.classes, SEAT_CLASSES)):
        run = slice(tracks.offsets[row], tracks.offsets[row + 1])
        stamps = recording.stamps_ns[tracks.first_steps[row] : tracks.last_steps[row] + 1]
        poses = at_rear_axle(stamps, tracks.states[run], tracks.rear_axles_m[row]).poses
        if np.hypot(*np.diff(poses[:, :2], axis=0).T).sum() < MIN_TRAVEL_M:
            continue
        lane_ids = matcher.match(poses[:, [0, 1, 3]])
        if lane_ids is not None:
            routes[int(tracks.ids[row])] = lane_ids
            commands[run] = commands_along(route_points(lanes, lane_ids), poses)
    return routes, commands


def _known_commands(recording: Recording) -> npt.NDArray[np.uint8]:
    tracks = recording.tracks
    commands = np.full(len(tracks.states), Command.UNKNOWN, dtype=np.uint8)
    for row in np.flatnonzero(np.isin(tracks.ids, list(recording.known_commands))):
        run = slice(tracks.offsets[row], tracks.offsets[row + 1])
        commands[run] = recording.known_commands[int(tracks.ids[row])]
    return commands


def commands_along(route_m: FloatArray, poses: FloatArray) -> npt.NDArray[np.uint8]:
    """Returns the command at every pose of a drive along its route.

    Each command sees only the stretch of the route around the vehicle, as a vehicle that drops the
    part behind it: long routes pass the same place twice and lead elsewhere the second time.

    Args:
        route_m: (n, 3) route, map frame.
        poses: (N, 4) x, y, z, yaw in driving order.
    """
    route = DrivenRoute(route_m, poses)
    commands = np.empty(len(poses), dtype=np.uint8)
    for row, decisive in enumerate(route.decisive.tolist()):
        if decisive < row:
            commands[row] = commands[decisive]
        else:
            commands[row] = route.command(row, Pose(*map(float, poses[row])))
    return commands


class DrivenRoute:
    """A route as it is seen along a drive.

    Attributes:
        decisive: (N,) row whose place and command hold at each pose: its own, or that of the last
            one from which the vehicle has not moved since.
    """

    def __init__(self, route_m: FloatArray, poses: FloatArray) -> None:
        """Follows the poses along the route; arguments as of `commands_along`."""
        self._line_m = _even(route_m)
        directions = np.gradient(self._line_m[:, :2], axis=0)
        self.decisive = _decisive(poses)
        self._places: dict[int, int] = {}
        place = _nearest(self._line_m, directions, poses[0], slice(None))
        reach = round(_SEARCH_M / _STEP_M)
        for row in np.unique(self.decisive).tolist():
            near = slice(max(0, place - reach), place + reach)
            place = _nearest(self._line_m, directions, poses[row], near)
            self._places[row] = place

    def command(self, row: int, pose: Pose) -> Command:
        """Returns the command at a pose near that of a row of the drive."""
        return command_from_route(self.stretch(row), pose)

    def stretch(self, row: int) -> FloatArray:
        """Returns the (n, 3) stretch of the route around a row of the drive, map frame."""
        place = self._places[int(self.decisive[row])]
        first = max(0, place - round(BEHIND_M / _STEP_M))
        return self._line_m[first : place + round(AHEAD_M / _STEP_M)]


def _decisive(poses: FloatArray) -> npt.NDArray[np.int64]:
    """Returns for each pose the row of the last one that was away from the one before it."""
    rows = np.zeros(len(poses), dtype=np.int64)
    for row in range(1, len(poses)):
        last = rows[row - 1]
        rows[row] = row if _has_moved(poses[last], poses[row]) else last
    return rows


def _has_moved(before: FloatArray, pose: FloatArray) -> bool:
    moved = abs(pose[0] - before[0]) + abs(pose[1] - before[1]) > _MOVED_M
    return bool(moved or abs(pose[3] - before[3]) > _TURNED_RAD)


def _nearest(route_m: FloatArray, directions: FloatArray, pose: FloatArray, stretch: slice) -> int:
    """Returns the point of a stretch of the route that is nearest and leads the pose's way."""
    delta = route_m[stretch, :2] - pose[:2]
    ahead = directions[stretch] @ np.array([np.cos(pose[3]), np.sin(pose[3])])
    squared = delta[:, 0] ** 2 + delta[:, 1] ** 2 + np.where(ahead >= 0.0, 0.0, 1e6)
    return (stretch.start or 0) + int(np.argmin(squared))


def _even(line_m: FloatArray) -> FloatArray:
    along = distances_along(line_m)
    grid = np.linspace(0.0, along[-1], max(2, int(np.ceil(along[-1] / _STEP_M)) + 1))
    return np.stack([np.interp(grid, along, line_m[:, axis]) for axis in range(3)], axis=-1)
