"""A guard alone under simulated time, with a clock that can be damaged."""

from __future__ import annotations

import numpy as np
from graph_probe import START, Probe
from rap_msgs.msg import TrajectoryCandidates
from rosgraph_msgs.msg import Clock

from rap_planner.candidates import Candidates
from rap_planner.ros.conversions import candidates_msg
from rap_planner.route import Command
from rap_raster.ego_history import EgoState
from rap_raster.ros.conversions import time_msg
from rap_raster.ros.qos import RESULT, STREAM

SECOND = 1_000_000_000
STEP_S = 0.1


class SimulatedDrive:
    """A vehicle that stands, with a plan to go on standing, in simulated time."""

    def __init__(self, probe: Probe) -> None:
        """Adds the clock and the candidates."""
        self._probe = probe
        probe.add_publisher(Clock, "/clock", STREAM)
        probe.add_publisher(TrajectoryCandidates, "rap/candidates", RESULT)
        self._now_ns, self._runs, self._clock_runs = 100 * SECOND, True, True
        probe.fed.append(self._now_ns)

    def tick(self) -> None:
        """Lets simulated time go on by a tenth of a second, as long in real time."""
        if self._runs:
            self._now_ns += int(STEP_S * SECOND)
            if self._clock_runs:
                self._probe.publish("/clock", Clock(clock=time_msg(self._now_ns)))
            odometry = self._probe.odometry_at(self._now_ns)
            odometry.pose.pose.position.x, odometry.twist.twist.linear.x = START[0], 0.0
            self._probe.publish("odometry", odometry)
            self._probe.publish("rap/candidates", self._plan())
        self._probe.spin(STEP_S)

    def _plan(self) -> TrajectoryCandidates:
        ego = EgoState(self._now_ns, *START, 0.0, 0.0, 0.0, 0.0)
        poses = np.zeros((1, 10, 3))
        poses[:, :, 0], poses[:, :, 1] = START[0], START[1]
        score, sources = np.zeros(1, np.float32), np.ones(3, np.uint8)
        return candidates_msg(
            Candidates(self._now_ns, ego, 0.5, poses, score, 0.0, Command.STRAIGHT, "route", 1.0,
                       sources, float("nan")),
            "map",
        )  # fmt: skip

    def stop(self) -> None:
        """The clock and all inputs stop, as in a paused simulation."""
        self._runs = False

    def stop_clock(self) -> None:
        """The clock stops alone: inputs go on with stamps ahead of it."""
        self._clock_runs = False

    def jump_back(self, back_s: float) -> None:
        """Time starts again earlier, as in a bag that loops; it stands there at first."""
        self._now_ns -= int(back_s * SECOND)
        self._probe.publish("/clock", Clock(clock=time_msg(self._now_ns)))
        self._runs = False

    def heal(self) -> None:
        """Time goes on, at the right pace."""
        self._runs, self._clock_runs = True, True
