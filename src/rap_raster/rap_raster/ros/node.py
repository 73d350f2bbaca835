"""The base of all nodes: lifecycle, parameters, diagnostics, and publishing from a worker thread.

A node file then has three parts: parameters, conversion, and one call into the library.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, ClassVar

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.timer import Timer

from rap_raster.ros.diagnostics import Health, ProblemLog
from rap_raster.ros.parameters import (
    AUTOSTART,
    Declared,
    check_all_declared,
    check_qos_overrides,
    declare,
)
from rap_raster.ros.qos import OVERRIDABLE, STREAM

DIAGNOSTICS_PERIOD_S = 1.0

LOOK_PERIOD_S = 0.1
"""How often a node looks whether its health has changed; at most so often it reports that."""

Message = Any
"""ROS messages are generated and untyped."""


class ConfigureError(Exception):
    """A node that should start by itself could not; the text is the real reason."""


class RapNode(LifecycleNode):
    """Lifecycle node with declared parameters and diagnostics that keep the real error text.

    Subclasses list `PARAMETERS` and override `setup` (load and validate everything), `start`
    (subscribe), `report` (health) and `close` (end threads).

    Attributes:
        problems: What was rejected so far.
        is_active: False in every other state; may be read from any thread.
    """

    PARAMETERS: ClassVar[tuple[Declared, ...]] = ()

    def __init__(self, name: str, overrides: Sequence[Parameter] = ()) -> None:
        """Declares all parameters.

        Args:
            name: Node name.
            overrides: Values that win over parameter files, for composition and tests.

        Raises:
            ParameterError: If a parameter is unknown, of the wrong type or out of range.
        """
        super().__init__(name, parameter_overrides=list(overrides))
        self.problems = ProblemLog()
        self.is_active = False
        self._failure: str | None = None
        self._on_stop: list[Callable[[], object]] = []
        self._on_cleanup: list[Callable[[], object]] = []
        self._outbox: deque[Callable[[], None]] = deque()
        self._outbox_filled = self.create_guard_condition(self._empty_outbox)
        declare(self, (AUTOSTART, *self.PARAMETERS))
        self.declare_dependent_parameters()
        # rclpy has no public way to ask what was set from outside.
        check_all_declared(self, list(self._parameter_overrides))
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", STREAM)
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._reported: tuple[bytes, str] | None = None
        self._looks = 0
        self.create_timer(LOOK_PERIOD_S, self._look_at_health, clock=self.steady_clock)
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._answer_change_state

    # What subclasses fill in.

    def declare_dependent_parameters(self) -> None:
        """Declares parameters whose names depend on other parameters."""

    def setup(self) -> None:
        """Loads and validates everything; what it raises becomes the node's failure text."""

    def start(self) -> None:
        """Subscribes."""

    def report(self, health: Health) -> None:
        """Adds to the health report."""

    def close(self) -> None:
        """Ends threads."""

    # What subclasses use.

    def parameter(self, name: str) -> Any:  # noqa: ANN401 - the table fixes each type
        """Returns a parameter's value."""
        return self.get_parameter(name).value

    def now_ns(self) -> int:
        """Returns the ROS time, which is the simulated one under `use_sim_time`."""
        return int(self.get_clock().now().nanoseconds)

    def subscribe(
        self,
        message: type,
        topic: str,
        callback: Callable[[Message], None],
        qos: QoSProfile,
        *,
        raw: bool = False,
    ) -> None:
        """Subscribes until deactivation; parameters may override the profile, see `qos`.

        With `raw`, the callback gets serialized messages, as bytes.
        """
        subscription = self.create_subscription(
            message, topic, callback, copy(qos), raw=raw, qos_overriding_options=OVERRIDABLE
        )
        self._on_stop.append(lambda: self.destroy_subscription(subscription))

    def advertise(self, message: type, topic: str, qos: QoSProfile) -> Any:  # noqa: ANN401
        """Returns a publisher that is silent while inactive and lives until clean-up."""
        publisher = self.create_lifecycle_publisher(
            message, topic, copy(qos), qos_overriding_options=OVERRIDABLE
        )
        self._on_cleanup.append(lambda: self.destroy_lifecycle_publisher(publisher))
        return publisher

    def every(self, period_s: float, callback: Callable[[], None], clock: Clock) -> Timer:
        """Calls back periodically until deactivation."""
        timer = self.create_timer(period_s, callback, clock=clock)
        self._on_stop.append(lambda: self.destroy_timer(timer))
        return timer

    def post(self, publish: Callable[[], None]) -> None:
        """Has the executor's thread call `publish`; may be called from any thread."""
        self._outbox.append(publish)
        self._outbox_filled.trigger()

    def reject(self, cause: str, error: Exception | str) -> None:
        """Counts a problem; the first of its cause is logged, later ones are in diagnostics."""
        text = f"{cause}: {one_line(error) if isinstance(error, Exception) else error}"
        if self.problems.add(cause, text):
            self.get_logger().warning(text)

    def health(self) -> Health:
        """Returns this node's health now."""
        health = Health()
        if self._failure is not None:
            health.error(self._failure)
        self.problems.report(health)
        self.report(health)
        return health

    def _look_at_health(self) -> None:
        """Publishes on /diagnostics once a period, and at once where level or state changed."""
        self._looks += 1
        health = self.health()
        is_due = self._looks * LOOK_PERIOD_S >= DIAGNOSTICS_PERIOD_S
        if not is_due and health.essence == self._reported:
            return
        self._looks, self._reported = 0, health.essence
        message = DiagnosticArray(status=[health.message(self.get_name())])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def start_by_itself(self) -> None:
        """Configures and activates if `autostart` is set.

        Raises:
            ConfigureError: If that fails.
        """
        if not self.parameter(AUTOSTART.name):
            return
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                raise ConfigureError(self._failure or "failed to start")

    # Lifecycle.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Runs `setup` and keeps its real error text."""
        return self._attempt(self.setup, undo=self._end) or super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Runs `start`; publishers become active."""
        return self._attempt(self._start, undo=self._stop) or super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends subscriptions and timers; publishers become silent."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends threads and publishers."""
        self._end()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends everything."""
        self._end()
        return super().on_shutdown(state)

    def destroy_node(self) -> None:
        """Ends threads before the node's handles become invalid."""
        self.close()
        super().destroy_node()

    def _answer_change_state(self, request: Message, response: Message) -> Message:
        """Answers also where the state allows no such transition: rclpy only raises then."""
        try:
            return self._change_state(request, response)
        except Exception as error:  # of the state machine alone: transitions keep theirs
            self.get_logger().warning(f"change_state: {one_line(error)}")
            response.success = False
            return response

    def _start(self) -> None:
        self.start()
        # Only now every topic of the node is known.
        check_qos_overrides(self, list(self._parameter_overrides))
        self.is_active = True

    def _stop(self) -> None:
        self.is_active = False
        _call_all(self._on_stop)

    def _end(self) -> None:
        self._stop()
        self.close()
        self._outbox.clear()  # what threads left there is for publishers that go now
        _call_all(self._on_cleanup)

    def _attempt(
        self, action: Callable[[], None], undo: Callable[[], None]
    ) -> TransitionCallbackReturn | None:
        """Returns FAILURE if `action` raised, with what it had begun undone, else None."""
        try:
            action()
        except Exception as error:  # rclpy would swallow it, and people need the reason
            self._failure = one_line(error)
            self.get_logger().error(self._failure)
            undo()
            return TransitionCallbackReturn.FAILURE
        self._failure = None
        return None

    def _empty_outbox(self) -> None:
        while self._outbox:
            self._outbox.popleft()()


def one_line(error: Exception) -> str:
    """Returns the text of an error in one line, with its type where the text alone is cryptic."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {text}"


def _call_all(actions: list[Callable[[], object]]) -> None:
    while actions:
        actions.pop()()
