"""Plays a bag into the graph: the recorded bytes, paced by their stamps, with simulated time."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from rap_bringup.bag_reader import LATCHED_TOPICS, Bag, RecordedMessage
from rap_bringup.bag_types import importable
from rap_raster.ros.qos import LATCHED, SENSOR, STREAM

CLOCK_PERIOD_NS = 10_000_000
"""100 Hz of drive time: the 20 Hz timer of the guard then jitters by a fifth of its period at most.
Every node spends some of its time on every tick."""

ACK_TIMEOUT_S = 5.0
"""A map of some megabytes takes well under a second; a node that cannot take it in is broken."""

MAX_LAG_S = 0.02
"""Jitter of the scheduler is caught up with; a busy machine slows the drive down instead."""

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PlayerHooks:
    """What the owner of a player does along the way.

    Attributes:
        before: Called before each message is due; may hold the drive.
        after: Called after each message was published.
        check: Called on every tick; raises to stop.
    """

    before: Callable[[RecordedMessage], None]
    after: Callable[[RecordedMessage], None]
    check: Callable[[], None]


class Player:
    """Publishes the input topics of a bag and `/clock`."""

    def __init__(self, node: Node, bag: Bag, topics: Iterable[str]) -> None:
        """Makes the publishers.

        Args:
            node: Owner of the publishers.
            bag: An opened bag.
            topics: Which of its topics to play; types that are not installed are left out.
        """
        self._node = node
        self._clock = node.create_publisher(Clock, "/clock", SENSOR)
        self._now_ns = bag.start_ns
        self._publishers: dict[str, Any] = {}
        for name in topics:
            topic = bag.topics[name]
            if not importable(topic.type_name):
                continue
            latched = name in LATCHED_TOPICS
            self._publishers[name] = node.create_publisher(
                _message_class(topic.type_name), name, LATCHED if latched else STREAM
            )

    @property
    def now_ns(self) -> int:
        """The drive time that was published last."""
        return self._now_ns

    def unmatched(self, needed: dict[str, int]) -> list[str]:
        """Returns the topics that have fewer subscriptions than needed."""
        publishers = {"/clock": self._clock, **self._publishers}
        return [
            name
            for name, count in needed.items()
            if name in publishers and publishers[name].get_subscription_count() < count
        ]

    def publish_clock(self, stamp_ns: int) -> None:
        """Publishes drive time."""
        self._now_ns = stamp_ns
        message = Clock(clock=Time(sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S))
        self._clock.publish(message)

    def publish(self, item: RecordedMessage) -> None:
        """Publishes one recorded message as it is; latched ones wait until they have arrived."""
        publisher = self._publishers.get(item.topic)
        if publisher is None:
            return
        publisher.publish(item.raw)
        if item.topic in LATCHED_TOPICS:
            publisher.wait_for_all_acked(Duration(seconds=ACK_TIMEOUT_S))

    def play(
        self,
        items: Iterable[RecordedMessage],
        rate: float,
        hooks: PlayerHooks,
    ) -> None:
        """Publishes messages at the pace of their stamps.

        Drive time never runs faster than `rate`: what was lost by waiting stays lost.

        Args:
            items: Messages in stamp order.
            rate: Drive seconds per second.
            hooks: What to do before and after each message.
        """
        pace: _Pace | None = None
        for item in items:
            hooks.before(item)
            if pace is None and item.topic not in LATCHED_TOPICS:
                pace = _Pace(item.stamp_ns, rate)
            if pace is not None:
                self._tick_until(item.stamp_ns, pace, hooks.check)
            self.publish(item)
            hooks.after(item)

    def _tick_until(self, stamp_ns: int, pace: _Pace, check: Callable[[], None]) -> None:
        while self._now_ns + CLOCK_PERIOD_NS < stamp_ns:
            self._step_to(self._now_ns + CLOCK_PERIOD_NS, pace)
            check()
        self._step_to(stamp_ns, pace)

    def _step_to(self, stamp_ns: int, pace: _Pace) -> None:
        time.sleep(pace.wait_s(stamp_ns))
        self.publish_clock(stamp_ns)

    def linger(self, until: Callable[[], bool], limit_s: float, rate: float) -> None:
        """Lets drive time go on until a condition holds, for at most `limit_s` of drive time."""
        pace = _Pace(self._now_ns, rate)
        last_ns = self._now_ns + round(limit_s * NS_PER_S)
        while self._now_ns < last_ns and not until():
            self._step_to(self._now_ns + CLOCK_PERIOD_NS, pace)


class _Pace:
    """When a drive time is due on the wall clock."""

    def __init__(self, start_ns: int, rate: float) -> None:
        self._start_ns = start_ns
        self._rate = rate
        self._wall_start_s = time.monotonic()

    def wait_s(self, stamp_ns: int) -> float:
        """Returns how long to sleep until `stamp_ns` is due; zero when it is overdue.

        A delay beyond `MAX_LAG_S` is not made up for: the rest of the drive is that much later.
        """
        due_s = (stamp_ns - self._start_ns) / NS_PER_S / self._rate
        ahead_s = self._wall_start_s + due_s - time.monotonic()
        if ahead_s < -MAX_LAG_S:
            self._wall_start_s -= ahead_s + MAX_LAG_S
        return max(0.0, ahead_s)


def _message_class(type_name: str) -> type:
    package, _, name = type_name.split("/")
    result: type = getattr(importlib.import_module(f"{package}.msg"), name)
    return result
