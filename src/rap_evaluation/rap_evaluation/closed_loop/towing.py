"""Smooth motion of road users while the simulation runs: the past is known, the future is not.

`rap_evaluation.traffic.motion` does the same for recordings, where it may look ahead. SUMO's front
bumpers jump where lanes do not meet, and slide sideways in a lane change even while they stand.
Here the front pursues a point ahead of SUMO's at SUMO's speed; the front axle follows where the
front has been, and the rear axle is towed behind it without side slip. (Were the centre led along
the path, as in recordings, buses would swing far into oncoming lanes; they would hit who waits.)
"""

from __future__ import annotations

import math
from collections import deque

from rap_raster.vehicle import REAR_AXLE_TO_CENTER_SHARE

PURSUIT_S = 1.0
"""How far ahead of SUMO's front the pursued point lies: a lane change takes some three of it."""

_VEHICLE_PURSUIT_M, _PERSON_PURSUIT_M = 3.0, 0.5  # At least.
_SOUND = 1.25  # Motion longer than this times the speed, and
_SOUND_M = 0.01  # a centimetre, is a jump or a slide and tells no direction.
_CATCH_UP = 1.5  # Fastest, relative to SUMO's speed.
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
        self._axle_m = length_m * REAR_AXLE_TO_CENTER_SHARE  # Of both axles from the centre.
        self._tow_m = max(2.0 * self._axle_m, _MIN_TOW_M)
        self._pursuit_m = _VEHICLE_PURSUIT_M if length_m > 0.0 else _PERSON_PURSUIT_M
        self._start(front_m, speed_mps)

    def _start(self, front_m: tuple[float, float], speed_mps: float) -> None:
        cos, sin = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        self.center_m = (front_m[0] - self._half_m * cos, front_m[1] - self._half_m * sin)
        self.velocity_mps = (speed_mps * cos, speed_mps * sin)
        self._hitch_m = (
            self.center_m[0] + self._axle_m * cos,
            self.center_m[1] + self._axle_m * sin,
        )
        self._seen_m = front_m
        self._speed_mps = speed_mps
        self._front_m = front_m
        self._direction = (cos, sin)
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
        if 0.0 < moved_m <= _SOUND * expected_m + _SOUND_M:
            self._direction = (dx / moved_m, dy / moved_m)
        self._seen_m, self._speed_mps = front_m, speed_mps
        self._pursue(front_m, expected_m, speed_mps)
        self._remember(*self._front_m)
        hitch_m = self._at(self._along_m - (self._half_m - self._axle_m))
        self._turn(hitch_m[0] - self._hitch_m[0], hitch_m[1] - self._hitch_m[1])
        self._hitch_m = hitch_m
        before = self.center_m
        self.center_m = (
            hitch_m[0] - self._axle_m * math.cos(self.yaw_rad),
            hitch_m[1] - self._axle_m * math.sin(self.yaw_rad),
        )
        self.velocity_mps = (
            (self.center_m[0] - before[0]) / dt_s,
            (self.center_m[1] - before[1]) / dt_s,
        )

    def _pursue(self, front_m: tuple[float, float], expected_m: float, speed_mps: float) -> None:
        """Moves the own front towards the point ahead of SUMO's, as far as the speed says."""
        reach_m = max(self._pursuit_m, PURSUIT_S * speed_mps)
        gap_x, gap_y = front_m[0] - self._front_m[0], front_m[1] - self._front_m[1]
        cos, sin = self._direction
        behind_m = gap_x * cos + gap_y * sin - expected_m
        step_m = expected_m * min(max(1.0 + behind_m / reach_m, 0.0), _CATCH_UP)
        ahead_x, ahead_y = gap_x + reach_m * cos, gap_y + reach_m * sin
        share = step_m / max(math.hypot(ahead_x, ahead_y), 1e-6)
        self._front_m = (self._front_m[0] + share * ahead_x, self._front_m[1] + share * ahead_y)

    def _remember(self, x_m: float, y_m: float) -> None:
        """Appends to the path of the front and drops what the front axle has passed."""
        along_m, last_x, last_y = self._path[-1]
        self._along_m = along_m + math.hypot(x_m - last_x, y_m - last_y)
        if self._along_m - along_m < _SPACING_M:
            self._along_m = along_m
            return
        self._path.append((self._along_m, x_m, y_m))
        passed_m = self._along_m - (self._half_m - self._axle_m)
        while len(self._path) > 2 and self._path[1][0] <= passed_m:
            self._path.popleft()

    def _at(self, along_m: float) -> tuple[float, float]:
        """Returns the point of the path at a distance; it is at or behind the second point."""
        (first_m, x0, y0), (second_m, x1, y1) = self._path[0], self._path[1]
        share = min(max((along_m - first_m) / (second_m - first_m), 0.0), 1.0)
        return x0 + share * (x1 - x0), y0 + share * (y1 - y0)

    def _turn(self, dx_m: float, dy_m: float) -> None:
        """Turns the rod from the rear to the front axle by the front axle's motion across it."""
        # Midpoint rule, as in `traffic.motion`.
        across_m = dy_m * math.cos(self.yaw_rad) - dx_m * math.sin(self.yaw_rad)
        middle = self.yaw_rad + 0.5 * across_m / self._tow_m
        across_m = dy_m * math.cos(middle) - dx_m * math.sin(middle)
        turned = self.yaw_rad + across_m / self._tow_m
        self.yaw_rad = (turned + math.pi) % (2.0 * math.pi) - math.pi
