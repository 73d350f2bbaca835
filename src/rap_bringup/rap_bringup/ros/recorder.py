"""Records what the graph answers: serialized messages with the time they arrived."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Path
from rap_msgs.msg import AlignedFeatures, Float64Stamped, GuardState, TrajectoryCandidates
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from rap_bringup.answers import Arrival
from rap_raster.ros.qos import STREAM

OUTPUTS = {
    "rap/features": AlignedFeatures,
    "rap/candidates": TrajectoryCandidates,
    "rap/state": GuardState,
    "rap/trajectory": Path,
    "rap/latency/end_to_end": Float64Stamped,
    "/diagnostics": DiagnosticArray,
}
"""In causal order, which is the order in which messages that wait together are handed on."""

CANDIDATE_READERS = 2
"""The guard and this recorder."""


class Recorder:
    """Subscribes to the graph's outputs and hands every message on from its own thread."""

    def __init__(self, node: Node, on_arrival: Callable[[Arrival], None]) -> None:
        """Makes the subscriptions.

        Args:
            node: Owner of the subscriptions; only this recorder's thread spins it.
            on_arrival: Called from the recorder's thread.
        """
        self._node = node
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._failure: Exception | None = None
        for topic, message_class in OUTPUTS.items():
            name = topic.lstrip("/")
            node.create_subscription(
                message_class, topic, _forward(name, on_arrival), STREAM, raw=True
            )
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def unmatched(self) -> list[str]:
        """Returns the topics that lack a publisher, or the guard as a subscriber."""
        missing = [topic for topic in OUTPUTS if self._node.count_publishers(topic) == 0]
        if self._node.count_subscribers("rap/candidates") < CANDIDATE_READERS:
            missing.append("rap/candidates to the guard")
        return missing

    def check(self) -> None:
        """Raises what went wrong in the recorder's thread, if something did."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ends the thread; nothing is handed on afterwards."""
        self._executor.shutdown()
        self._thread.join(timeout=5.0)

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return
        except Exception as error:  # handed to the main thread by check()
            self._failure = error


def _forward(name: str, on_arrival: Callable[[Arrival], None]) -> Callable[[bytes], None]:
    def forward(raw: bytes) -> None:
        on_arrival(Arrival(name, bytes(raw), time.monotonic()))

    return forward
