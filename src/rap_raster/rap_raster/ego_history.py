"""The ego's recent motion, looked up by stamp and never by index.

Odometry arrives at whatever rate the vehicle has and with gaps; consumers ask for the state at the
stamp of an image or of a past time and get an interpolated one, or None.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_raster.frames import FloatArray, Pose, to_local, wrap_angle

MAX_EXTRAPOLATION_S = 0.2
"""Odometry may lag the image it is asked for by two periods at 10 Hz, not more."""

MAX_GAP_S = 0.6
"""Two samples further apart are not interpolated: at 2 Hz recordings, one missing sample."""

JUMP_NS = 1_000_000_000
"""A stamp that goes back further than this is no message that came late: time jumped back."""

HISTORY_COLUMNS = ("x_m", "y_m", "yaw_rad", "vx_mps", "vy_mps", "yaw_rate_radps", "valid")
"""Columns of `EgoHistory.network_input`."""


@dataclass(frozen=True, slots=True)
class EgoState:
    """Pose and velocity of the ego frame at one instant.

    Attributes:
        stamp_ns: Nanoseconds.
        x_m: Map frame.
        y_m: Map frame.
        z_m: Map frame.
        yaw_rad: Map frame.
        vx_mps: Forward speed, ego frame.
        vy_mps: Speed to the left, ego frame.
        yaw_rate_radps: Counter-clockwise.
        pitch_rad: As of `Pose`.
        roll_rad: As of `Pose`.
    """

    stamp_ns: int
    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float
    vx_mps: float
    vy_mps: float
    yaw_rate_radps: float
    pitch_rad: float = 0.0
    roll_rad: float = 0.0

    @property
    def pose(self) -> Pose:
        """The pose alone."""
        return Pose(self.x_m, self.y_m, self.z_m, self.yaw_rad, self.pitch_rad, self.roll_rad)

    @property
    def planar(self) -> FloatArray:
        """(3,) x, y, yaw in the map frame."""
        return np.array([self.x_m, self.y_m, self.yaw_rad])


class EgoHistory:
    """A sliding window of ego states in stamp order."""

    def __init__(self, max_age_s: float = 5.0) -> None:
        """Keeps states for `max_age_s` seconds behind the newest one."""
        self._max_age_ns = int(max_age_s * 1e9)
        self._states: list[EgoState] = []
        self._late_ns: int | None = None  # stamp of the last state if it was older than the newest

    @property
    def latest(self) -> EgoState | None:
        """The newest state, or None before the first."""
        return self._states[-1] if self._states else None

    def add(self, state: EgoState) -> None:
        """Puts a state in its place.

        A repeated stamp replaces the old state. A state that came late is sorted in. Time jumped
        back (a replay that loops) where a stamp goes back far, or where two in a row are older than
        the newest and rise: then the history starts anew.
        """
        stamp_ns = state.stamp_ns
        newest_ns = self._states[-1].stamp_ns if self._states else stamp_ns
        goes_on_late = self._late_ns is not None and self._late_ns < stamp_ns < newest_ns
        if stamp_ns < newest_ns - JUMP_NS or goes_on_late:
            self._states.clear()
        self._late_ns = stamp_ns if self._states and stamp_ns < newest_ns else None
        index = bisect_left(self._states, stamp_ns, key=lambda known: known.stamp_ns)
        repeated = index < len(self._states) and self._states[index].stamp_ns == stamp_ns
        self._states[index : index + repeated] = [state]
        oldest_ns = self._states[-1].stamp_ns - self._max_age_ns
        while self._states[0].stamp_ns < oldest_ns:
            self._states.pop(0)

    def at(self, stamp_ns: int) -> EgoState | None:
        """Returns the state at a stamp.

        Interpolates linearly between neighbours at most `MAX_GAP_S` apart; up to
        `MAX_EXTRAPOLATION_S` past the newest state it continues at constant velocity and yaw rate.
        Returns None where neither applies.
        """
        index = bisect_left(self._states, stamp_ns, key=lambda state: state.stamp_ns)
        if index == len(self._states):
            return self._extrapolated(stamp_ns)
        after = self._states[index]
        if after.stamp_ns == stamp_ns:
            return after
        if index == 0:
            return None
        before = self._states[index - 1]
        if after.stamp_ns - before.stamp_ns > MAX_GAP_S * 1e9:
            return None
        return _interpolated(before, after, stamp_ns)

    def network_input(self, stamp_ns: int, steps: int, dt_s: float) -> npt.NDArray[np.float32]:
        """Returns the history as the planner network reads it.

        Args:
            stamp_ns: Now; must have a state.
            steps: Number of rows; the last one is now.
            dt_s: Time between rows.

        Returns:
            (steps, 7) columns `HISTORY_COLUMNS`, oldest first, poses in the ego frame at
            `stamp_ns`. Rows before the history starts are all zero, `valid` included.

        Raises:
            ValueError: If there is no state at `stamp_ns`.
        """
        now = self.at(stamp_ns)
        if now is None:
            raise ValueError(f"no ego state at stamp {stamp_ns} ns")
        step_ns = round(dt_s * 1e9)
        stamps = [stamp_ns - (steps - 1 - row) * step_ns for row in range(steps)]
        return history_rows(now, [self.at(stamp) for stamp in stamps])

    def _extrapolated(self, stamp_ns: int) -> EgoState | None:
        last = self.latest
        if last is None or stamp_ns - last.stamp_ns > MAX_EXTRAPOLATION_S * 1e9:
            return None
        return extrapolated(last, stamp_ns)


def extrapolated(state: EgoState, stamp_ns: int) -> EgoState:
    """Continues a state to `stamp_ns` at constant ego-frame velocity and yaw rate."""
    dt_s = (stamp_ns - state.stamp_ns) * 1e-9
    mid_yaw = state.yaw_rad + 0.5 * dt_s * state.yaw_rate_radps
    cos, sin = np.cos(mid_yaw), np.sin(mid_yaw)
    return EgoState(
        stamp_ns=stamp_ns,
        x_m=float(state.x_m + dt_s * (cos * state.vx_mps - sin * state.vy_mps)),
        y_m=float(state.y_m + dt_s * (sin * state.vx_mps + cos * state.vy_mps)),
        z_m=state.z_m,
        yaw_rad=float(wrap_angle(state.yaw_rad + dt_s * state.yaw_rate_radps)),
        vx_mps=state.vx_mps,
        vy_mps=state.vy_mps,
        yaw_rate_radps=state.yaw_rate_radps,
        pitch_rad=state.pitch_rad,
        roll_rad=state.roll_rad,
    )


def history_rows(now: EgoState, states: list[EgoState | None]) -> npt.NDArray[np.float32]:
    """Returns (len(states), 7) rows of `HISTORY_COLUMNS` in the ego frame of `now`."""
    rows = np.zeros((len(states), len(HISTORY_COLUMNS)), dtype=np.float32)
    for row, state in zip(rows, states, strict=True):
        if state is not None:
            row[:3] = to_local(now.planar, state.planar)
            row[3:] = state.vx_mps, state.vy_mps, state.yaw_rate_radps, 1.0
    return rows


def _interpolated(before: EgoState, after: EgoState, stamp_ns: int) -> EgoState:
    share = (stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)

    def mix(a: float, b: float) -> float:
        return a + share * (b - a)

    turn = float(wrap_angle(after.yaw_rad - before.yaw_rad))
    return EgoState(
        stamp_ns=stamp_ns,
        x_m=mix(before.x_m, after.x_m),
        y_m=mix(before.y_m, after.y_m),
        z_m=mix(before.z_m, after.z_m),
        yaw_rad=float(wrap_angle(before.yaw_rad + share * turn)),
        vx_mps=mix(before.vx_mps, after.vx_mps),
        vy_mps=mix(before.vy_mps, after.vy_mps),
        yaw_rate_radps=mix(before.yaw_rate_radps, after.yaw_rate_radps),
        pitch_rad=mix(before.pitch_rad, after.pitch_rad),
        roll_rad=mix(before.roll_rad, after.roll_rad),
    )
