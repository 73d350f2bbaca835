"""What the guard promises about its output, judged from its messages alone.

Nothing here comes from the guard's code: speeds, accelerations and curvature are finite differences
of the published poses, and the vehicle's limits are read from the shipped parameter file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

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
        arrivals_s: When trajectories came, by a steady clock.
        starts: Number of states when the guard was killed.
        broken: What trajectories broke.
        poses: (n, 3) x, y, yaw of the newest trajectory.
    """

    states: list[tuple[int, int, str]] = field(default_factory=list)
    arrivals_s: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    poses: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    _limits: VehicleLimits = field(default_factory=VehicleLimits.shipped)
    _newest: bytes = b""

    def take_state(self, message: GuardState) -> None:
        """Notes a state."""
        if message.state not in STATE_NAMES:
            self.broken.append(f"unknown state {message.state}")
        self.states.append((stamp_ns(message.header.stamp), message.state, message.reason))

    def take_path(self, raw: bytes) -> None:
        """Judges a serialized trajectory, unless it is the one before again."""
        self.arrivals_s.append(time.monotonic())
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

    def guard_starts_anew(self) -> None:
        """Says that the guard was killed: the gap that follows is none of its own."""
        self.starts.append(len(self.states))

    def gaps_s(self) -> np.ndarray:
        """Times between the guard's own cycle stamps, while it lives."""
        gaps = np.diff([stamp for stamp, *_ in self.states]) * 1e-9
        killed = [index - 1 for index in self.starts]
        return np.delete(gaps, [index for index in killed if 0 <= index < len(gaps)])

    def figures(self) -> str:
        """Percentiles of the gaps, by the guard's stamps and by arrival here."""
        lines = []
        for name, gaps in (("stamps", self.gaps_s()), ("arrivals", np.diff(self.arrivals_s))):
            p50, p99, p999 = 1e3 * np.percentile(gaps, [50, 99, 99.9])
            lines.append(
                f"gaps by {name}: {len(gaps)}, p50 {p50:.0f} ms, p99 {p99:.0f} ms, "
                f"p99.9 {p999:.0f} ms, max {1e3 * gaps.max():.0f} ms"
            )
        return "\n".join(lines)


def _planar(pose: object) -> tuple[float, float, float]:
    q = pose.orientation
    return pose.position.x, pose.position.y, 2.0 * np.arctan2(q.z, q.w)
