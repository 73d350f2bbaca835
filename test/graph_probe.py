"""Nodes as processes, and a node of the test's own that feeds and watches them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import IO, Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rap_msgs.msg import TrackedObjects
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image

from rap_raster.ros.conversions import objects_msg, packed, time_msg
from rap_raster.ros.qos import RESULT, STREAM

ROOT = Path(__file__).parents[1]
os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds_shm.xml"))
# As camera drivers should: readers that are killed fill the default segment sooner or later.

DOMAIN_ID = 50 + os.getpid() % 50
"""Own domain per test process; Linux allows ids up to 101 with default ports."""

SPEED_MPS = 5.0
START = (100.0, 50.0, 0.0)
END_TIMEOUT_S = 15.0
RUN_END_S = 30.0

Fault = Callable[[Any], list[Any]]
"""What becomes of a message on its way: nothing, another one, several."""


def environment() -> dict[str, str]:
    """Environment of the processes: this one's, in the tests' own domain."""
    return {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN_ID)}


class Process:
    """One node process."""

    def __init__(
        self,
        module: str,
        parameters: Sequence[str] = (),
        params_file: str = "",
        options: Sequence[str] = (),
    ) -> None:
        arguments = [sys.executable, "-m", module, "--ros-args", *options]
        if params_file:
            arguments += ["--params-file", params_file]
        for parameter in parameters:
            arguments += ["-p", parameter]
        self._process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def wait(self) -> tuple[int, str]:
        """Waits for the end; returns exit status and stderr."""
        _, errors = self._process.communicate(timeout=END_TIMEOUT_S)
        return self._process.returncode, errors

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Sends a signal and waits for the end."""
        self._process.send_signal(number)
        return self.wait()


def children(parent: int) -> dict[str, int]:
    """Module of every child to its process id. Source: proc(5), field 4 of stat."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(stat[1]) == parent and b"-m" in words:
            found[words[words.index(b"-m") + 1].decode()] = int(folder.name)
    return found


@contextmanager
def rap_run(*arguments: object, stderr: int | IO[str] = subprocess.PIPE) -> Iterator[Popen]:
    """`rap run` as a process, ended with its children."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rap_bringup.cli", "run", *(str(a) for a in arguments)],
        cwd=ROOT,
        env=environment(),
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:  # its children end with SIGTERM, not with SIGKILL
            process.terminate()
        process.communicate(timeout=RUN_END_S)


class Probe:
    """Feeds a straight drive at constant speed and collects what the graph answers."""

    def __init__(self, namespace: str = "") -> None:
        self._namespace = namespace
        self._context = Context()
        self.received: dict[str, list] = defaultdict(list)

    def __enter__(self) -> Probe:
        rclpy.init(context=self._context, domain_id=DOMAIN_ID)
        self.node = Node("probe", context=self._context, namespace=self._namespace)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._publishers: dict[str, Publisher] = {}
        self.add_publisher(Odometry, "odometry", STREAM)
        self.add_publisher(TrackedObjects, "objects", STREAM)
        self._objects_topic = "objects"
        self._cameras: dict[str, bool] = {}
        self.faults: dict[str, Fault] = {}
        self.fed: list[int] = []
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def watch(self, message: type, topic: str, qos: object = RESULT) -> list:
        """Collects a topic from now on; returns the growing list."""
        self.node.create_subscription(message, topic, self.received[topic].append, qos)
        return self.received[topic]

    def add_publisher(self, message: type, topic: str, qos: object) -> None:
        """Adds a topic for `publish`."""
        self._publishers[topic] = self.node.create_publisher(message, topic, qos)

    def publish(self, topic: str, message: object) -> None:
        """Publishes a message, or what the fault of its topic makes of it."""
        fault = self.faults.get(topic)
        for outcome in [message] if fault is None else fault(message):
            self._publishers[topic].publish(outcome)

    def redirect_objects(self, topic: str) -> None:
        """Publishes objects on another topic from now on."""
        self.node.destroy_publisher(self._publishers.pop(self._objects_topic))
        self.add_publisher(TrackedObjects, topic, STREAM)
        self._objects_topic = topic

    def add_camera(self, name: str, *, calibrated: bool) -> None:
        """Adds a 128x64 camera that always sees one grey."""
        self.add_publisher(Image, f"camera/{name}/image", STREAM)
        self.add_publisher(CameraInfo, f"camera/{name}/camera_info", STREAM)
        self._cameras[name] = calibrated

    def feed(self, *, objects: object | None) -> int:
        """Publishes one instant of the drive, now; returns its stamp."""
        now_ns = self.node.get_clock().now().nanoseconds
        self.fed.append(now_ns)
        self.publish("odometry", self.odometry_at(now_ns))
        if objects is not None:
            self.publish(self._objects_topic, objects_msg(objects(now_ns), "map"))
        for name, calibrated in self._cameras.items():
            if calibrated:
                self.publish(f"camera/{name}/camera_info", _calibration(time_msg(now_ns)))
            self.publish(f"camera/{name}/image", _grey_image(time_msg(now_ns)))
        return now_ns

    def ego_x_m(self, stamp_ns: int) -> float:
        """Where the ego is at a stamp, along x."""
        return START[0] + SPEED_MPS * (stamp_ns - self.fed[0]) * 1e-9

    def odometry_at(self, stamp_ns: int) -> Odometry:
        message = Odometry(child_frame_id="base_link")
        message.header.stamp, message.header.frame_id = time_msg(stamp_ns), "map"
        position = message.pose.pose.position
        position.x, position.y, position.z = self.ego_x_m(stamp_ns), START[1], START[2]
        message.twist.twist.linear.x = SPEED_MPS
        return message

    def drive_until(
        self,
        condition: Callable[[], bool],
        *,
        objects: object | None = None,
        period_s: float = 0.1,
        timeout_s: float = 30.0,
    ) -> None:
        """Feeds the drive until a condition holds; fails the test after a timeout."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                counts = {topic: len(messages) for topic, messages in self.received.items()}
                raise AssertionError(f"timeout after {timeout_s} s, received {counts}")
            self.feed(objects=objects)
            self.spin(period_s)

    def spin(self, duration_s: float) -> None:
        """Receives for a while."""
        deadline_s = time.monotonic() + duration_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)


def _grey_image(stamp: Time) -> Image:
    message = Image(height=64, width=128, encoding="rgb8", step=3 * 128)
    message.header.stamp = stamp
    message.data = packed("B", np.full((64, 128, 3), 100, np.uint8))
    return message


def _calibration(stamp: Time) -> CameraInfo:
    message = CameraInfo(height=64, width=128, distortion_model="plumb_bob")
    message.header.stamp = stamp
    message.k = [80.0, 0.0, 63.5, 0.0, 80.0, 31.5, 0.0, 0.0, 1.0]
    message.d = [0.0] * 5
    return message
