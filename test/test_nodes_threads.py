"""Raster and planner node of one process: whoever calls, one step is taken at a time."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import rclpy
from bundles import HEIGHT, WIDTH
from graph_probe import DOMAIN_ID
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from rap_inference.bundle import load_bundle
from rap_inference.network import OnnxRuntimeNetwork
from rap_planner.ros.planner_node import PlannerNode
from rap_raster.encoder import nominal_rig
from rap_raster.observations import CameraFrame, TrackedObjects
from rap_raster.ros.conversions import time_msg
from rap_raster.ros.qos import RESULT
from rap_raster.ros.raster_node import RasterNode
from rap_raster.scene import Boxes, Lights

pytestmark = pytest.mark.ros

SECOND = 1_000_000_000
OVERLAP_S = 0.5
"""How long a network waits for a second caller, which must not come."""


class Turnstile(OnnxRuntimeNetwork):
    """A real network that counts how many threads are in it at once."""

    changed: ClassVar[threading.Condition] = threading.Condition()
    inside: ClassVar[Counter[str]] = Counter()
    most: ClassVar[Counter[str]] = Counter()
    overlap_s: ClassVar[float] = 0.0

    def __init__(self, path, *, threads: int) -> None:
        super().__init__(path, threads=threads)
        self._name = path.stem

    def run(self, inputs):
        with self.changed:
            self.inside[self._name] += 1
            self.most[self._name] = max(self.most[self._name], self.inside[self._name])
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.most[self._name] > 1, self.overlap_s)
        outputs = super().run(inputs)
        with self.changed:
            self.inside[self._name] -= 1
        return outputs


@pytest.fixture
def nodes(tiny_bundle, monkeypatch):
    """A raster node that steps on frames, or on objects if they stay away, and its planner."""
    monkeypatch.setattr("rap_inference.backends.OnnxRuntimeNetwork", Turnstile)
    rclpy.init(domain_id=DOMAIN_ID)
    values = {
        "bundle.path": str(tiny_bundle),
        "cameras.names": ["front_cam"],
        "objects.independent_of_cameras": True,
    }
    raster = RasterNode(overrides=[Parameter(name, value=v) for name, v in values.items()])
    planner = PlannerNode(
        overrides=[Parameter("bundle.path", value=str(tiny_bundle))], ego=raster.ego
    )
    raster.connect(planner.process)
    for node in (planner, raster):
        node.start_by_itself()
    for tenths in range(20):
        raster.ego.receive(odometry(tenths * SECOND // 10))
    Turnstile.inside.clear()
    Turnstile.most.clear()
    yield raster, planner
    for node in (raster, planner):
        node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def planned(nodes, monkeypatch) -> list[int]:
    """Stamps of the features that the planner was handed."""
    raster, planner = nodes
    stamps: list[int] = []

    def process(features) -> None:
        stamps.append(features.stamp_ns)
        planner.process(features)

    raster.connect(process)
    return stamps


def odometry(stamp_ns: int) -> Odometry:
    message = Odometry(child_frame_id="base_link")
    message.header.stamp, message.header.frame_id = time_msg(stamp_ns), "map"
    message.pose.pose.orientation.w = 1.0
    return message


def objects(stamp_ns: int) -> TrackedObjects:
    nothing = np.empty(0, np.float32)
    return TrackedObjects(stamp_ns, Boxes.empty(), Lights.empty(), nothing, nothing)


@pytest.fixture
def frame(tiny_bundle):
    rig = nominal_rig(load_bundle(tiny_bundle))

    def at(stamp_ns: int) -> CameraFrame:
        return CameraFrame(
            stamp_ns=stamp_ns,
            names=tuple(camera.name for camera in rig),
            valid=np.ones(len(rig), bool),
            age_s=np.zeros(len(rig), np.float32),
            images=np.zeros((len(rig), HEIGHT, WIDTH, 3), np.uint8),
            intrinsics=np.array([(c.fx, c.fy, c.cx, c.cy) for c in rig]),
            ego_from_camera=np.stack([c.ego_from_camera for c in rig]),
        )

    return at


def test_cameras_that_come_back_wait_for_the_step_on_objects(nodes, planned, frame, monkeypatch):
    raster, _ = nodes
    raster.process(frame(SECOND))
    monkeypatch.setattr(Turnstile, "overlap_s", OVERLAP_S)
    raster.receive_objects(objects(3 * SECOND // 2))
    with Turnstile.changed:
        assert Turnstile.changed.wait_for(lambda: Turnstile.inside["encoder"], 10.0)
    raster.process(frame(8 * SECOND // 5))
    assert Turnstile.most == {"encoder": 1, "planner": 1}
    assert planned == [SECOND, 3 * SECOND // 2, 8 * SECOND // 5]


def test_a_slow_step_on_a_frame_is_no_camera_that_is_gone(nodes, planned, frame, monkeypatch):
    raster, _ = nodes
    compute = raster._compute

    def slow(step, item):
        raster.receive_objects(objects(3 * SECOND // 2))  # half a second passes
        return compute(step, item)

    monkeypatch.setattr(raster, "_compute", slow)
    raster.process(frame(SECOND))
    raster.receive_objects(objects(8 * SECOND // 5))
    assert raster._worker.counts.submitted == 0
    assert planned == [SECOND]


def test_objects_whose_turn_comes_after_newer_frames_are_no_step(nodes, planned, frame):
    raster, _ = nodes
    raster.process(frame(3 * SECOND // 2))
    late = objects(7 * SECOND // 5)
    raster.receive_objects(late)
    raster.process(late)
    assert planned == [3 * SECOND // 2]


def test_inactive_nodes_take_no_step(nodes, planned, frame):
    raster, planner = nodes
    planner.trigger_deactivate()
    raster.process(frame(SECOND))
    assert planned == [SECOND]
    assert Turnstile.most == {"encoder": 1}
    raster.trigger_deactivate()
    raster.process(frame(6 * SECOND // 5))
    raster.receive_objects(objects(19 * SECOND // 10))
    raster.close()
    assert planned == [SECOND]


def test_rasters_are_laid_over_the_images_for_whoever_looks(nodes, frame):
    raster, _ = nodes
    truck = Boxes.from_rows([[1, 2, 12.0, 0.0, 1.5, 8.0, 3.0, 3.0, 0.0, 0.0, 0.0]])
    ones = np.ones(1, np.float32)
    raster.receive_objects(TrackedObjects(SECOND, truck, Lights.empty(), 0 * ones, ones))
    probe = rclpy.create_node("viewer")
    seen: list[Image] = []
    probe.create_subscription(Image, "raster/front/overlay", seen.append, RESULT)
    executor = SingleThreadedExecutor()
    for node in (raster, probe):
        executor.add_node(node)
    grey = replace(frame(SECOND), images=np.full((3, HEIGHT, WIDTH, 3), 100, np.uint8))
    for _ in range(100):
        raster.process(grey)
        executor.spin_once(timeout_sec=0.05)
        if seen:
            break
    executor.shutdown()
    probe.destroy_node()
    pixels = np.asarray(seen[0].data).reshape(HEIGHT, WIDTH, 3)
    assert (pixels[0, 0] == 100).all()
    assert (pixels[HEIGHT // 2, WIDTH // 2] != 100).any()
