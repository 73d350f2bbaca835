"""The node between the planner and the vehicle: the only publisher of rap/trajectory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar

from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMsg
from rap_msgs.msg import GuardState as GuardStateMsg
from rap_msgs.msg import TrajectoryCandidates
from rclpy.parameter import Parameter

from rap_planner.candidates import Candidates
from rap_planner.guard import Guard, GuardDecision, GuardLimits, GuardState, Trajectory
from rap_planner.ros.conversions import candidates_from_msg, guard_state_msg
from rap_planner.trajectory import STEP_S
from rap_raster.ros.conversions import MessageError, path_msg
from rap_raster.ros.diagnostics import Health
from rap_raster.ros.ego_input import EgoInput
from rap_raster.ros.node import RapNode
from rap_raster.ros.parameters import BASE_FRAME, MAP_FRAME, Declared
from rap_raster.ros.qos import RESULT, STREAM
from rap_raster.ros.spin import run_nodes

TOPICS = {"active": "rap/trajectory", "shadow": "rap/shadow/trajectory"}


class GuardNode(RapNode):
    """Checks candidates and publishes a trajectory at a fixed rate."""

    PARAMETERS: ClassVar[tuple[Declared, ...]] = (
        Declared("mode", "shadow", "active | shadow", choices=tuple(TOPICS)),
        Declared("rate_hz", 20.0, "output rate", 1.0, 100.0),
        Declared("limits.candidate_age_s", 0.5, "oldest candidates to follow", 0.01, 60.0),
        Declared("limits.odometry_age_s", 0.3, "oldest odometry to trust", 0.01, 60.0),
        Declared("hold_s", 0.3, "how long the last valid trajectory is held", 0.0, 2.0),
        Declared("resume_cycles", 3, "good cycles in a row that end a stop", 1, 1000),
        Declared("stop.deceleration_mps2", 2.5, "of the controlled stop", 0.1, 9.0),
        Declared("stop.jerk_mps3", 1.5, "of the controlled stop", 0.1, 20.0),
        MAP_FRAME,
        BASE_FRAME,
    )

    def __init__(self, name: str = "guard_node", overrides: Sequence[Parameter] = ()) -> None:
        """Creates the node; see `RapNode`."""
        super().__init__(name, overrides)
        self._map_frame = self.parameter(MAP_FRAME.name)
        self._ego = EgoInput(self._map_frame, self.parameter(BASE_FRAME.name))
        self._candidates: Candidates | None = None
        self._decision: GuardDecision | None = None
        self._path: tuple[Trajectory, PathMsg] | None = None

    def setup(self) -> None:
        """Makes the guard."""
        self._guard = Guard(
            GuardLimits(
                candidate_age_s=self.parameter("limits.candidate_age_s"),
                odometry_age_s=self.parameter("limits.odometry_age_s"),
                hold_s=self.parameter("hold_s"),
                resume_cycles=self.parameter("resume_cycles"),
                deceleration_mps2=self.parameter("stop.deceleration_mps2"),
                jerk_mps3=self.parameter("stop.jerk_mps3"),
            )
        )
        self._trajectories = self.advertise(PathMsg, TOPICS[self.parameter("mode")], RESULT)
        self._states = self.advertise(GuardStateMsg, "rap/state", RESULT)

    def start(self) -> None:
        """Subscribes and starts the cycle."""
        self.subscribe(TrajectoryCandidates, "rap/candidates", self._on_candidates, RESULT)
        self.subscribe(Odometry, "odometry", self._on_odometry, STREAM)
        self.every(1.0 / self.parameter("rate_hz"), self._cycle, self.get_clock())

    def _on_candidates(self, message: TrajectoryCandidates) -> None:
        try:
            self._candidates = candidates_from_msg(message, self._map_frame)
        except MessageError as error:
            self.reject("rap/candidates", error)

    def _on_odometry(self, message: Odometry) -> None:
        try:
            self._ego.receive(message)
        except MessageError as error:
            self.reject("odometry", error)

    def _cycle(self) -> None:
        now_ns = self.now_ns()
        decision = self._guard.step(now_ns, self._candidates, self._ego.latest)
        self._log_change(decision)
        self._decision = decision
        self._states.publish(guard_state_msg(decision, now_ns, self._map_frame))
        if decision.trajectory is not None:
            self._trajectories.publish(self._path_of(decision.trajectory))

    def _path_of(self, trajectory: Trajectory) -> PathMsg:
        """Converts a trajectory, or takes the message of the last cycle if it is the same one."""
        if self._path is None or self._path[0] is not trajectory:
            poses_m, z_m = trajectory.poses_m, trajectory.z_m
            message = path_msg(trajectory.stamp_ns, self._map_frame, poses_m, z_m, STEP_S)
            self._path = (trajectory, message)
        return self._path[1]

    def _log_change(self, decision: GuardDecision) -> None:
        before = self._decision
        if before is None or before.state is not decision.state:
            self.get_logger().info(f"{decision.state.name}: {decision.reason}")

    def report(self, health: Health) -> None:
        """Says what the guard does and why."""
        health.values["mode"] = self.parameter("mode")
        decision = self._decision
        if decision is None:
            health.warn("no cycle yet" + (", is /clock running?" if self._uses_sim_time else ""))
            return
        health.values["state"] = decision.state.name
        health.values |= {f"check {name}": check.name for name, check in decision.checks.items()}
        text = f"{decision.state.name}: {decision.reason}"
        if decision.state is GuardState.CONTROLLED_STOP:
            health.error(text)
        elif decision.state is not GuardState.NOMINAL:
            health.warn(text)

    @property
    def _uses_sim_time(self) -> bool:
        return bool(self.get_parameter("use_sim_time").value)


def main() -> None:
    """Runs the node until a signal ends it."""
    sys.exit(run_nodes("guard_node", lambda: [GuardNode()]))


if __name__ == "__main__":
    main()
