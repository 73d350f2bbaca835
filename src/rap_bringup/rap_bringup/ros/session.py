"""One connection of the `rap` command to a graph: a player and a recorder in a ROS context."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from types import TracebackType

import rclpy
from rclpy.context import Context
from rclpy.node import Node

from rap_bringup.answers import Arrival
from rap_bringup.bag_reader import Bag
from rap_bringup.processes import graph_environment
from rap_bringup.ros.player import Player
from rap_bringup.ros.recorder import Recorder


class GraphSession:
    """Joins the graph of a domain; a context manager.

    Attributes:
        player: Publishes the bag.
        recorder: Receives the answers.
    """

    def __init__(
        self,
        domain: int,
        bag: Bag,
        topics: Iterable[str],
        on_arrival: Callable[[Arrival], None],
    ) -> None:
        """Makes nodes, publishers and subscriptions.

        Args:
            domain: ROS domain of the graph.
            bag: The bag to be played.
            topics: Its topics to play.
            on_arrival: Called from the recorder's thread for every answer.
        """
        # Fast DDS reads its profile when the first participant is made, so it must be set by now.
        wanted = graph_environment(domain)
        os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = wanted["FASTRTPS_DEFAULT_PROFILES_FILE"]
        self._context = Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        self._nodes = [
            Node(name, context=self._context, use_global_arguments=False)
            for name in ("rap_player", "rap_recorder")
        ]
        self.player = Player(self._nodes[0], bag, topics)
        self.recorder = Recorder(self._nodes[1], on_arrival)

    def __enter__(self) -> GraphSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.recorder.stop()
        for node in self._nodes:
            node.destroy_node()
        self._context.try_shutdown()
