"""What a graph answered to a bag, counted as it arrives; no ROS."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rap_bringup.bag_reader import Bag
from rap_bringup.bag_types import deserialized, raw_stamp_ns
from rap_bringup.recording import OUTPUT_TYPES
from rap_bringup.summary import Plan
from rap_inference.bundle import Bundle
from rap_raster.frames import FloatArray

NOMINAL, HOLD_LAST = 1, 2
FOLLOWING = (NOMINAL, HOLD_LAST)
"""States of `rap_msgs/GuardState` in which the published trajectory is a plan's."""

LOOKS = 2
"""Cycles of the guard after a plan: the first of them may have begun before the plan came."""

GUARD_STATES = ("waiting", "nominal", "hold_last", "controlled_stop", "mrm_request")
"""Names of the states of `rap_msgs/GuardState`, by code."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One answer of the graph.

    Attributes:
        topic: Without leading slash.
        raw: CDR bytes.
        monotonic_s: Steady clock when it arrived.
    """

    topic: str
    raw: bytes
    monotonic_s: float


@dataclass(frozen=True, slots=True)
class StepFeatures:
    """Where the features of one step came from, and the cameras they belong to.

    Attributes:
        sources: (C,) `FeatureSource` codes.
        intrinsics: (C, 4) fx, fy, cx, cy.
        ego_from_camera: (C, 4, 4).
    """

    sources: tuple[int, ...]
    intrinsics: FloatArray
    ego_from_camera: FloatArray


@dataclass
class Answers:
    """What came back from the graph, filled by the recorder's thread.

    Attributes:
        published_s: Step stamp to the steady time its last message was published.
        latencies_ms: Step stamp to latency of its first trajectory.
        plans: Best candidate by step stamp.
        features: Features by step stamp.
        guard_cycles: Number of guard cycles by state.
    """

    published_s: dict[int, float] = field(default_factory=dict)
    latencies_ms: dict[int, float] = field(default_factory=dict)
    plans: dict[int, Plan] = field(default_factory=dict)
    features: dict[int, StepFeatures] = field(default_factory=dict)
    guard_cycles: Counter[int] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _is_following: bool = False
    _cycles_at_plan: dict[int, int] = field(default_factory=dict)

    def take(self, arrival: Arrival) -> None:
        """Counts one answer."""
        if arrival.topic == "rap/trajectory":
            self._take_trajectory(arrival)
        elif arrival.topic == "rap/candidates":
            plan = best_plan(arrival.raw)
            with self.lock:
                self._cycles_at_plan.setdefault(plan.stamp_ns, self.guard_cycles.total())
                self.plans[plan.stamp_ns] = plan
        elif arrival.topic == "rap/features":
            stamp_ns = raw_stamp_ns(arrival.raw)
            features = step_features(arrival.raw)
            with self.lock:
                self.features[stamp_ns] = features
        elif arrival.topic == "rap/state":
            state = int(deserialized(arrival.raw, OUTPUT_TYPES["rap/state"]).state)
            self.guard_cycles[state] += 1
            self._is_following = state in FOLLOWING

    def _take_trajectory(self, arrival: Arrival) -> None:
        """Counts a trajectory that follows a plan.

        The guard also publishes its own stops; those carry the stamp of the newest odometry, which
        may be a step's stamp too, and answer nothing. It publishes its state just before.
        """
        stamp_ns = raw_stamp_ns(arrival.raw)
        with self.lock:
            sent_s = self.published_s.get(stamp_ns)
            is_new = stamp_ns in self.plans and stamp_ns not in self.latencies_ms
            if sent_s is not None and is_new and self._is_following:
                self.latencies_ms[stamp_ns] = 1e3 * (arrival.monotonic_s - sent_s)

    def is_judged(self, stamp_ns: int | None) -> bool:
        """True once the guard has followed the plan of a step, or has had time to look at it."""
        if stamp_ns in self.latencies_ms:
            return True
        before = self._cycles_at_plan.get(stamp_ns) if stamp_ns is not None else None
        return before is not None and self.guard_cycles.total() >= before + LOOKS

    def sent(self, stamp_ns: int) -> None:
        """Notes that a message of a step was published just now."""
        with self.lock:
            self.published_s[stamp_ns] = time.monotonic()


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay leaves for its pictures.

    Attributes:
        bag: The bag that was played.
        bundle: The bundle that drove.
        slots: Slot name to camera name; empty without cameras.
        steps_ns: Stamps of all steps.
        answers: What came back.
        summary: Content of `summary.json`.
        out: Folder with the results.
    """

    bag: Bag
    bundle: Bundle
    slots: dict[str, str]
    steps_ns: list[int]
    answers: Answers
    summary: dict[str, object]
    out: Path


def best_plan(raw: bytes) -> Plan:
    """Returns the best-scored candidate of a serialized `rap_msgs/TrajectoryCandidates`."""
    content = deserialized(raw, OUTPUT_TYPES["rap/candidates"])
    poses = content.poses.reshape(content.num_candidates, content.num_poses, 3)
    return Plan(
        stamp_ns=raw_stamp_ns(raw),
        dt_s=float(content.dt_s),
        points_m=poses[int(np.argmax(content.scores)), :, :2].copy(),
        command_source=content.command_source,
        inference_ms=float(content.inference_ms),
    )


def step_features(raw: bytes) -> StepFeatures:
    """Returns sources and cameras of a serialized `rap_msgs/AlignedFeatures`."""
    content = deserialized(raw, "rap_msgs/msg/AlignedFeatures")
    count = len(content.sources)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3] = content.ego_from_camera.reshape(count, 3, 4)
    return StepFeatures(
        sources=tuple(int(code) for code in content.sources),
        intrinsics=content.intrinsics.reshape(count, 4).astype(np.float64),
        ego_from_camera=poses,
    )
