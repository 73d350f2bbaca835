"""The node between the planner and the vehicle: the only publisher of rap/trajectory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMsg
from rap_msgs.msg import (
    Float64Stamped,
    MapPrimitives,
    MrmRequest,
    TrackedObjects,
    TrajectoryCandidates,
)
from rap_msgs.msg import GuardState as GuardStateMsg
from rclpy.parameter import Parameter

from rap_planner.checks import Check, Mode
from rap_planner.drivable import DrivableArea
from rap_planner.guard import Guard, GuardDecision, GuardInputs, GuardState
from rap_planner.ros.autoware_output import TOPICS as AUTOWARE_TOPICS
from rap_planner.ros.autoware_output import AutowareOutput
from rap_planner.ros.conversions import (
    candidates_from_msg,
    guard_state_msg,
    last_pose,
    number_msg,
    usable_objects,
)
from rap_planner.ros.guard_parameters import GUARD_PARAMETERS, MRM_TOPICS, TOPICS, guard_settings
from rap_planner.trajectory import STEP_S, Trajectory
from rap_raster.ego_history import extrapolated
from rap_raster.ros.conversions import (
    MessageError,
    header,
    map_from_msg,
    path_msg,
    stamp_ns,
)
from rap_raster.ros.diagnostics import Health
from rap_raster.ros.ego_input import EgoInput
from rap_raster.ros.node import RapNode
from rap_raster.ros.parameters import BASE_FRAME, MAP_FRAME, Declared, ParameterError
from rap_raster.ros.qos import LATCHED, RESULT
from rap_raster.ros.spin import run_nodes

FORWARD_SHARE = 0.5
"""Of the period: candidates that come faster than that do not each bring a cycle forward."""

GRAPH_PERIOD_S = 1.0
"""How often other publishers of the trajectory are looked for."""


class GuardNode(RapNode):
    """Checks candidates and publishes a trajectory at a fixed rate.

    Candidates are looked at when they come, not up to a period later: the timer then starts anew,
    so that cycles fall into step with a planner that is steady, and no gap grows.
    """

    PARAMETERS: ClassVar[tuple[Declared, ...]] = (*GUARD_PARAMETERS, MAP_FRAME, BASE_FRAME)

    def __init__(self, name: str = "guard_node", overrides: Sequence[Parameter] = ()) -> None:
        """Creates the node; see `RapNode`."""
        super().__init__(name, overrides)
        self._map_frame = self.parameter(MAP_FRAME.name)
        self._base_frame = self.parameter(BASE_FRAME.name)
        self._ego = EgoInput(self._map_frame, self._base_frame)
        self._newest = GuardInputs()
        self._goal: bytes | None = None
        self._decision: GuardDecision | None = None
        self._path: tuple[Trajectory, PathMsg] | None = None
        self._requested: bool | None = None
        self._answered_ns: int | None = None
        self._other_publishers = ""
        self._odometry_publishers = 0
        self._period_s = 1.0 / self.parameter("rate_hz")
        self._forward_ns = 0  # when a cycle was last brought forward, by the steady clock

    def setup(self) -> None:
        """Reads the limits and makes the publishers."""
        self._settings = guard_settings(self.parameter)
        self._trajectories = self.advertise(PathMsg, TOPICS[self.parameter("mode")], RESULT)
        self._autoware = self._autoware_output()
        self._states = self.advertise(GuardStateMsg, "rap/state", RESULT)
        self._requests = self.advertise(MrmRequest, MRM_TOPICS[self.parameter("mode")], LATCHED)
        self._end_to_end_ms = self.advertise(Float64Stamped, "rap/latency/end_to_end", RESULT)

    def _autoware_output(self) -> AutowareOutput | None:
        wanted = self.parameter("autoware_trajectory")
        if wanted == "off":
            return None
        topic = AUTOWARE_TOPICS[self.parameter("mode")]
        try:
            return AutowareOutput(
                self, topic, self._map_frame, self.parameter("vehicle.wheel_base_m")
            )
        except MessageError as error:
            if wanted == "on":
                raise ParameterError(f"autoware_trajectory: {error}") from error
            return None

    def start(self) -> None:
        """Subscribes and starts the cycle, by the wall clock: nothing may stop it.

        The guard is a new one: where the vehicle has gone in the meantime is not known.
        """
        self._guard = Guard(self._settings)
        self._newest, self._goal = GuardInputs(), None
        self._decision, self._requested = None, None
        self.subscribe(TrajectoryCandidates, "rap/candidates", self._on_candidates, RESULT)
        # The newest alone: after a moment without processor time, what has queued up is no reason
        # to find odometry or objects old.
        self.subscribe(Odometry, "odometry", self._on_odometry, RESULT)
        self.subscribe(TrackedObjects, "rap/objects", self._on_objects, RESULT)
        self.subscribe(MapPrimitives, "rap/map", self._on_map, LATCHED)
        self.subscribe(PathMsg, "route", self._on_route, LATCHED, raw=True)
        self._timer = self.every(self._period_s, self._cycle, self.steady_clock)
        self.every(GRAPH_PERIOD_S, self._look_around, self.steady_clock)

    def _on_candidates(self, message: TrajectoryCandidates) -> None:
        def update() -> GuardInputs:
            candidates = candidates_from_msg(message, self._map_frame)
            return replace(self._newest, candidates=candidates)

        if self._take("rap/candidates", update):
            self._bring_forward(stamp_ns(message.header.stamp))

    def _bring_forward(self, planned_ns: int) -> None:
        """Runs a cycle now, unless candidates come in a burst.

        If it follows the new candidates, it stands for the next one. Else that one comes in its
        time: the clock or the odometry may be on their way.
        """
        now_ns = self.steady_clock.now().nanoseconds
        if now_ns - self._forward_ns < FORWARD_SHARE * self._period_s * 1e9:
            return
        self._forward_ns = now_ns
        self._cycle()
        if self._decision is not None and self._decision.trajectory.stamp_ns == planned_ns:
            self._timer.reset()

    def _on_odometry(self, message: Odometry) -> None:
        def update() -> GuardInputs:
            self._ego.receive(message)
            return replace(self._newest, odometry=self._ego.latest)

        self._take("odometry", update)

    def _on_objects(self, message: TrackedObjects) -> None:
        def update() -> GuardInputs:
            objects, problem = usable_objects(message, self._map_frame)
            if problem:
                self.reject("rap/objects", MessageError(problem))
            return replace(self._newest, objects=objects)

        self._take("rap/objects", update)

    def _on_map(self, message: MapPrimitives) -> None:
        def update() -> GuardInputs:
            road = DrivableArea(map_from_msg(message, self._map_frame).polygons)
            return replace(self._newest, road=None if road.is_empty else road)

        self._take("rap/map", update)

    def _on_route(self, serialized: bytes) -> None:
        """Takes a route that ends elsewhere for a new one; some send what is left of it anew.

        A route that is taken away is no new one. It stays serialized: thousands of poses would take
        longer to read than a cycle may last.
        """

        def update() -> GuardInputs:
            goal = last_pose(serialized, self._map_frame)
            if goal and goal != self._goal:
                self._guard.new_route()
            self._goal = goal or self._goal
            return self._newest

        self._take("route", update)

    def _take(self, topic: str, update: Callable[[], GuardInputs]) -> bool:
        """Takes a message in; one that cannot be used is counted and changes nothing."""
        try:
            self._newest = update()
        except Exception as error:  # whatever a message does, the cycle goes on
            self.reject(topic, error)
            return False
        return True

    def _cycle(self) -> None:
        """Runs a cycle; what fails in a part of it keeps no other part from its work."""
        now_ns = self.now_ns()
        before, decision = self._decision, self._guard.step(now_ns, self._inputs())
        self._decision = decision
        # The state first, so that who reads both knows what the trajectory is. What comes from
        # elsewhere last.
        for part in (
            lambda: self._states.publish(guard_state_msg(decision, now_ns, self._map_frame)),
            lambda: self._trajectories.publish(self._path_of(decision.trajectory)),
            lambda: self._request(decision, now_ns),
            lambda: self._tell_latency(decision, now_ns),
            lambda: self._log_change(before, decision),
            lambda: self._tell_autoware(decision),
        ):
            try:
                part()
            except Exception as error:  # the next part must come, and the next cycle
                self.reject("cycle", error)

    def _inputs(self) -> GuardInputs:
        """Returns the newest of everything, and where the ego was when candidates were made."""
        candidates, odometry = self._newest.candidates, self._newest.odometry
        if candidates is None or odometry is None:
            return self._newest
        try:
            then = self._ego.wait_for(candidates.stamp_ns, 0.0)
            then = then or extrapolated(odometry, candidates.stamp_ns)
        except Exception as error:  # a cycle without its start is checked less, but comes
            self.reject("cycle", error)
            then = None
        return replace(self._newest, odometry_then=then)

    def _request(self, decision: GuardDecision, now_ns: int) -> None:
        """Asks for the vehicle's own manoeuvre, or withdraws that when it may go again.

        A guard that has just started knows of no request.
        """
        requested = decision.state is GuardState.MRM_REQUEST
        if requested == self._requested or not (requested or decision.state is GuardState.NOMINAL):
            return
        self._requests.publish(
            MrmRequest(
                header=header(now_ns, self._map_frame),
                requested=requested,
                reason=decision.reason,
            )
        )
        self._requested = requested

    def _tell_autoware(self, decision: GuardDecision) -> None:
        if self._autoware is not None:
            self._autoware.publish(decision.trajectory)

    def _tell_latency(self, decision: GuardDecision, now_ns: int) -> None:
        stamp_ns = decision.trajectory.stamp_ns
        if decision.state is GuardState.NOMINAL and stamp_ns != self._answered_ns:
            self._answered_ns = stamp_ns
            self._end_to_end_ms.publish(number_msg(stamp_ns, 1e-6 * (now_ns - stamp_ns)))

    def _path_of(self, trajectory: Trajectory) -> PathMsg:
        """Converts a trajectory, or takes the message of the last cycle if it is the same one."""
        if self._path is None or self._path[0] is not trajectory:
            frame = self._map_frame if trajectory.in_map else self._base_frame
            poses_m, z_m = trajectory.poses_m, trajectory.z_m
            message = path_msg(trajectory.stamp_ns, frame, poses_m, z_m, STEP_S)
            self._path = (trajectory, message)
        return self._path[1]

    def _log_change(self, before: GuardDecision | None, decision: GuardDecision) -> None:
        if before is None or before.state is not decision.state:
            self.get_logger().info(f"{decision.state.name}: {decision.reason}")

    def _look_around(self) -> None:
        """Notes who else publishes what a controller reads, and how many publish odometry."""
        self._odometry_publishers = self.count_publishers(self.resolve_topic_name("odometry"))
        topic = self._trajectories.topic_name
        infos = self.get_publishers_info_by_topic(topic)
        names = [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos]
        own = self.get_fully_qualified_name()
        if own in names:
            names.remove(own)
        others = ", ".join(sorted(names))
        self._other_publishers = f"{topic}: published by others too: {others}" if others else ""

    def report(self, health: Health) -> None:
        """Says what the guard does and why."""
        health.values["mode"] = self.parameter("mode")
        if self._other_publishers:
            health.error(
                f"{self._other_publishers} (a killed process stays listed for some seconds)"
            )
        if self._odometry_publishers > 1:
            health.warn(f"odometry: {self._odometry_publishers} publishers, expected one")
        decision = self._decision
        if decision is None:
            health.warn("no cycle yet")
            return
        if self.get_parameter("use_sim_time").value and self.now_ns() == 0:
            health.warn("no /clock received, and use_sim_time is set")
        health.values["state"] = decision.state.name
        if decision.error:
            health.error(decision.error)
        text = f"{decision.state.name}: {decision.reason}"
        if decision.state in {GuardState.CONTROLLED_STOP, GuardState.MRM_REQUEST}:
            health.error(text)
        elif decision.state is not GuardState.NOMINAL:
            health.warn(text)
        _report_checks(decision, health)


def _report_checks(decision: GuardDecision, health: Health) -> None:
    """Tells what each check says, and warns of enforced ones that lack their input."""
    health.values |= {f"check {name}": check.name for name, check in decision.checks.items()}
    blind = [
        name
        for name, outcome in decision.outcomes.items()
        if outcome.mode is Mode.ENFORCE
        and decision.checks[name] is Check.NOT_CHECKED
        and name != "shift"  # It lacks what was followed, not an input.
    ]
    if blind:
        health.warn(f"not checked, for want of fresh input: {', '.join(blind)}")


def main() -> None:
    """Runs the node until a signal ends it."""
    sys.exit(run_nodes("guard_node", lambda: [GuardNode()]))


if __name__ == "__main__":
    main()
