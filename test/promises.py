"""What the guard promises about its output, judged from its messages alone.

Nothing here comes from the guard's code: speeds, accelerations and curvature are finite differences
of the published poses, and the vehicle's limits are read from the shipped parameter file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import yaml
from graph_probe import ROOT
from nav_msgs.msg import Path as PathMsg
from rap_msgs.msg import GuardState
from rclpy.serialization import deserialize_message

from rap_raster.ros.conversions import stamp_ns

STEP_S = 0.1
MARGIN = 1.05
"""The issue's allowance on the limits of the guard's bicycle."""

CREEP_M = 0.2
"""Below this step, 2 m/s, a heading change is judged as if the step were this long."""

WAITING, NOMINAL, HOLD_LAST = GuardState.WAITING, GuardState.NOMINAL, GuardState.HOLD_LAST
STOP, MRM = GuardState.CONTROLLED_STOP, GuardState.MRM_REQUEST
STATE_NAMES = {
    WAITING: "WAITING",
    NOMINAL: "NOMINAL",
    HOLD_LAST: "HOLD_LAST",
    STOP: "CONTROLLED_STOP",
    MRM: "MRM_REQUEST",
}


@dataclass(frozen=True)
class VehicleLimits:
    """What the vehicle can do, by the shipped parameters."""

    acceleration_mps2: float
    braking_mps2: float
    lateral_mps2: float
    curvature_per_m: float

    @classmethod
    def shipped(cls) -> VehicleLimits:
        """Reads the shipped parameter file."""
        file = yaml.safe_load((ROOT / "config/rap.param.yaml").read_text())
        values = file["/**/guard_node"]["ros__parameters"]
        return cls(
            values["limits.acceleration_mps2"],
            values["limits.braking_mps2"],
            values["limits.lateral_acceleration_mps2"],
            float(np.tan(values["vehicle.max_steering_rad"]) / values["vehicle.wheel_base_m"]),
        )


def infeasible(poses: np.ndarray, limits: VehicleLimits) -> str:
    """Returns what (n, 3) poses 0.1 s apart ask for and no vehicle can do; empty if nothing."""
    if not np.isfinite(poses).all():
        return "a pose is not finite"
    if len(poses) < 3:
        return ""
    moved = np.diff(poses[:, :2], axis=0)
    turned = np.angle(np.exp(1j * np.diff(poses[:, 2])))
    middle = poses[:-1, 2] + 0.5 * turned
    ahead_m = moved[:, 0] * np.cos(middle) + moved[:, 1] * np.sin(middle)
    speeds = ahead_m / STEP_S
    gained = np.diff(speeds) / STEP_S
    asked = {
        "acceleration": (gained.max(), limits.acceleration_mps2),
        "braking": (-gained.min(), limits.braking_mps2),
        "lateral acceleration": (np.abs(speeds * turned / STEP_S).max(), limits.lateral_mps2),
        "curvature": (
            np.abs(turned / np.maximum(np.abs(ahead_m), CREEP_M)).max(),
            limits.curvature_per_m,
        ),
    }
    broken = [f"{what} {v:.2f} > {most:.2f}" for what, (v, most) in asked.items()
              if v > MARGIN * most]  # fmt: skip
    return ", ".join(broken)


def is_kind_of(state: int, poses: np.ndarray) -> bool:
    """True if a trajectory is one that a state publishes."""
    if state == WAITING:
        return len(poses) == 1
    if state in (STOP, MRM):
        return len(poses) == 50 and np.linalg.norm(poses[-1, :2] - poses[-2, :2]) < 0.1 * STEP_S
    return len(poses) == 50


@dataclass
class Recorder:
    """Watches the guard: every state and every trajectory.

    Attributes:
        states: (stamp, state, reason) of every cycle.
        cycles_ns: When the guard published each of them, by its own clock.
        answers_ns: When it published each trajectory, by the same clock.
        killed_ns: When the guard was killed, by the same clock.
        broken: What trajectories broke.
        poses: (n, 3) x, y, yaw of the newest trajectory.
    """

    states: list[tuple[int, int, str]] = field(default_factory=list)
    cycles_ns: list[int] = field(default_factory=list)
    answers_ns: list[int] = field(default_factory=list)
    killed_ns: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    poses: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    _limits: VehicleLimits = field(default_factory=VehicleLimits.shipped)
    _newest: bytes = b""

    def take_state(self, message: GuardState, info: dict[str, int]) -> None:
        """Notes a state, which the guard publishes before the trajectory of the cycle."""
        self.cycles_ns.append(info["source_timestamp"])
        if message.state not in STATE_NAMES:
            self.broken.append(f"unknown state {message.state}")
        self.states.append((stamp_ns(message.header.stamp), message.state, message.reason))

    def take_path(self, raw: bytes, info: dict[str, int]) -> None:
        """Judges a serialized trajectory, unless it is the one before again."""
        self.answers_ns.append(info["source_timestamp"])
        if raw == self._newest:
            return
        self._newest = raw
        message = deserialize_message(raw, PathMsg)
        self.poses = np.array([_planar(pose.pose) for pose in message.poses])
        frame = message.header.frame_id
        problem = infeasible(self.poses, self._limits)
        if (len(self.poses), frame) not in ((1, "map"), (1, "base_link"), (50, "map")):
            problem = f"{len(self.poses)} poses in {frame!r}"
        if problem:
            self.broken.append(f"{self.states[-1:]}: {problem}")

    def guard_was_killed(self) -> None:
        """Says so: the gap that follows is none of the guard's own."""
        self.killed_ns.append(time.time_ns())

    def unanswered(self) -> list[str]:
        """Returns what came in cycles that published not one trajectory, but none or more.

        A life of the guard counts from its first trajectory on, because the reader finds its topics
        one after the other; and what came after the newest trajectory may have its own on its way.
        """
        answers_ns = np.array(self.answers_ns)
        ends = np.searchsorted(self.cycles_ns, self.killed_ns)
        found = []
        for first, last in pairwise([0, *ends, len(self.states)]):
            cycles_ns = np.array(self.cycles_ns[first:last])
            before = np.searchsorted(answers_ns, cycles_ns)
            judged = (before[:-1] > before[:1]) & (cycles_ns[1:] <= answers_ns[-1])
            counts = np.where(judged, np.diff(before), 1)
            found += [
                f"{counts[k]} trajectories in {STATE_NAMES[self.states[first + k][1]]}"
                for k in np.flatnonzero(counts != 1)
            ]
        return found

    def gaps_s(self, since_ns: int = 0) -> np.ndarray:
        """Times between trajectories by the guard's clock, while it lives, after an instant."""
        answers_ns = np.array([stamp for stamp in self.answers_ns if stamp >= since_ns])
        within_life = np.diff(np.searchsorted(self.killed_ns, answers_ns)) == 0
        return 1e-9 * np.diff(answers_ns)[within_life]

    def figures(self, since_ns: int = 0) -> str:
        """Percentiles of the gaps between trajectories after an instant."""
        gaps = self.gaps_s(since_ns)
        p50, p99, p999 = 1e3 * np.percentile(gaps, [50, 99, 99.9])
        return (
            f"gaps between trajectories: {len(gaps)}, p50 {p50:.0f} ms, p99 {p99:.0f} ms, "
            f"p99.9 {p999:.0f} ms, max {1e3 * gaps.max():.0f} ms"
        )


def _planar(pose: object) -> tuple[float, float, float]:
    q = pose.orientation
    return pose.position.x, pose.position.y, 2.0 * np.arctan2(q.z, q.w)
