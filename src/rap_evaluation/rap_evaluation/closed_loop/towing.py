"""Smooth motion of road users while the simulation runs: the past is known, the future is not.

`rap_evaluation.traffic.motion` does the same for recordings, where it may look ahead. Here a jump
of SUMO's front bumper is taken back at once and given in slowly; the box centre follows where the
front has been, and the rear axle is towed behind the centre without side slip.
"""

from __future__ import annotations

import math
from collections import deque

from rap_raster.vehicle import REAR_AXLE_TO_CENTER_SHARE

GIVE_IN_S = 1.0
"""Time constant of giving in to a jump: a lane change takes some three seconds."""

_JUMP_M = 0.15  # Motion that differs more from the speed is a jump, and not a kink of a lane.
_TELEPORT_M = 6.0  # More than that is no motion: the road user is elsewhere now.
_MIN_TOW_M = 0.3  # People and other short things turn on the spot.
_SPACING_M = 0.05  # Between remembered points of the path.


class TowedBox:
    """One road user's box, step by step."""

    def __init__(
        self, front_m: tuple[float, float], yaw_rad: float, speed_mps: float, length_m: float
    ) -> None:
        """Places the box; the road user came from straight behind.

        Args:
            front_m: Front bumper; the middle of a person.
            yaw_rad: Heading.
            speed_mps: Along the heading.
            length_m: Of a vehicle; 0 if the positions are already of the centre.
        """
        self.yaw_rad = yaw_rad
        self._half_m = 0.5 * length_m
        self._tow_m = max(length_m * REAR_AXLE_TO_CENTER_SHARE, _MIN_TOW_M)
        self._start(front_m, speed_mps)

    def _start(self, front_m: tuple[float, float], speed_mps: float) -> None:
        cos, sin = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        self.center_m = (front_m[0] - self._half_m * cos, front_m[1] - self._half_m * sin)
        self.velocity_mps = (speed_mps * cos, speed_mps * sin)
        self._seen_m = front_m
        self._speed_mps = speed_mps
        self._offset_m = (0.0, 0.0)
        self._along_m = 0.0
        behind_m = self._half_m + 1.0
        behind = (front_m[0] - behind_m * cos, front_m[1] - behind_m * sin)
        self._path = deque([(-behind_m, *behind), (0.0, *front_m)])

    def step(self, front_m: tuple[float, float], speed_mps: float, dt_s: float) -> None:
        """Moves the box to where it is `dt_s` later; arguments are as at the start."""
        dx, dy = front_m[0] - self._seen_m[0], front_m[1] - self._seen_m[1]
        expected_m = 0.5 * (speed_mps + self._speed_mps) * dt_s
        moved_m = math.hypot(dx, dy)
        if moved_m > _TELEPORT_M:
            self._start(front_m, speed_mps)
            return
        self._take_back(dx, dy, moved_m, expected_m, dt_s)
        self._seen_m, self._speed_mps = front_m, speed_mps
        self._remember(front_m[0] + self._offset_m[0], front_m[1] + self._offset_m[1])
        before = self.center_m
        self.center_m = self._at(self._along_m - self._half_m)
        step_m = (self.center_m[0] - before[0], self.center_m[1] - before[1])
        self._turn(*step_m)
        self.velocity_mps = (step_m[0] / dt_s, step_m[1] / dt_s)

    def _take_back(
        self, dx: float, dy: float, moved_m: float, expected_m: float, dt_s: float
    ) -> None:
        """Adds a jump to the offset from SUMO's position, and lets the offset fade."""
        x, y = self._offset_m
        if abs(moved_m - expected_m) > _JUMP_M:
            _, before_x, before_y = self._path[-2]
            _, last_x, last_y = self._path[-1]
            heading = math.atan2(last_y - before_y, last_x - before_x)
            x -= dx - expected_m * math.cos(heading)
            y -= dy - expected_m * math.sin(heading)
        keep = math.exp(-dt_s / GIVE_IN_S)
        self._offset_m = (keep * x, keep * y)

    def _remember(self, x_m: float, y_m: float) -> None:
        """Appends to the path of the front and drops what the centre has passed."""
        along_m, last_x, last_y = self._path[-1]
        self._along_m = along_m + math.hypot(x_m - last_x, y_m - last_y)
        if self._along_m - along_m < _SPACING_M:
            self._along_m = along_m
            return
        self._path.append((self._along_m, x_m, y_m))
        while len(self._path) > 2 and self._path[1][0] <= self._along_m - self._half_m:
            self._path.popleft()

    def _at(self, along_m: float) -> tuple[float, float]:
        """Returns the point of the path at a distance; it is at or behind the second point."""
        (first_m, x0, y0), (second_m, x1, y1) = self._path[0], self._path[1]
        share = min(max((along_m - first_m) / (second_m - first_m), 0.0), 1.0)
        return x0 + share * (x1 - x0), y0 + share * (y1 - y0)

    def _turn(self, dx_m: float, dy_m: float) -> None:
        """Turns the rod from the rear axle to the centre by the centre's motion across it."""
        # Midpoint rule, as in `traffic.motion`.
        across_m = dy_m * math.cos(self.yaw_rad) - dx_m * math.sin(self.yaw_rad)
        middle = self.yaw_rad + 0.5 * across_m / self._tow_m
        across_m = dy_m * math.cos(middle) - dx_m * math.sin(middle)
        turned = self.yaw_rad + across_m / self._tow_m
        self.yaw_rad = (turned + math.pi) % (2.0 * math.pi) - math.pi
