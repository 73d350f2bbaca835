"""Odometry, shared by the nodes of one process and readable from worker threads."""

from __future__ import annotations

from threading import Condition

import numpy as np
import numpy.typing as npt
from nav_msgs.msg import Odometry

from rap_raster.ego_history import EgoHistory, EgoState
from rap_raster.ros.conversions import ego_state_from_msg


class EgoInput:
    """A thread-safe ego history fed by odometry messages."""

    def __init__(self, map_frame: str, base_frame: str) -> None:
        """Starts empty; messages must be in these frames."""
        self._frames = (map_frame, base_frame)
        self._changed = Condition()
        self._history = EgoHistory()

    @property
    def latest(self) -> EgoState | None:
        """The newest state, or None before the first."""
        with self._changed:
            return self._history.latest

    def receive(self, message: Odometry) -> None:
        """Takes a message in; raises MessageError if it must not be used."""
        state = ego_state_from_msg(message, *self._frames)
        with self._changed:
            self._history.add(state)
            self._changed.notify_all()

    def wait_for(self, stamp_ns: int, timeout_s: float) -> EgoState | None:
        """Returns the state at a stamp.

        Waits a moment for odometry that is at least as new, because messages of one instant arrive
        in any order; then takes what can be interpolated or extrapolated, else None.
        """

        def arrived() -> bool:
            latest = self._history.latest
            return latest is not None and latest.stamp_ns >= stamp_ns

        with self._changed:
            self._changed.wait_for(arrived, timeout_s)
            return self._history.at(stamp_ns)

    def network_input(self, stamp_ns: int, steps: int, dt_s: float) -> npt.NDArray[np.float32]:
        """Returns the planner's history input; see `EgoHistory.network_input`."""
        with self._changed:
            return self._history.network_input(stamp_ns, steps, dt_s)
