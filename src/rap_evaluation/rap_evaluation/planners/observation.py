"""What planners may look at, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rap_evaluation.metrics.pdm_scene import DT_S, HORIZON_STEPS, AgentKind, Agents
from rap_raster.ego_history import EgoHistory, EgoState
from rap_raster.frames import FloatArray
from rap_raster.scene import Boxes, Lights, LightState, ObjectClass

LEVEL_M = 4.0
"""Whoever stands farther above or below the ego's road is on another road, over or under a bridge:
roads that cross leave room for trucks, which are 4 m high. The score looks from above and would
take such road users for obstacles."""

_KINDS = {
    ObjectClass.PEDESTRIAN: AgentKind.PEDESTRIAN,
    ObjectClass.BICYCLE: AgentKind.BICYCLE,
    ObjectClass.CONE: AgentKind.STATIC,
    ObjectClass.BARRIER: AgentKind.STATIC,
    ObjectClass.GENERIC: AgentKind.STATIC,
}


@dataclass(frozen=True, slots=True)
class Road:
    """The way to go.

    Attributes:
        lane_ids: Lanes in driving order.
        line_m: (n, 3) x, y, z of their centreline.
        along_m: (n,) distance along it.
        seed: Of what is simulated on the way.
    """

    lane_ids: tuple[str, ...]
    line_m: FloatArray
    along_m: FloatArray
    seed: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One instant of the world, the ego left out.

    Attributes:
        boxes: Road users; an id stays with its road user.
        lights: Traffic lights.
        signals: State of the light of every mapped connector that has one, by lane id.
    """

    boxes: Boxes
    lights: Lights
    signals: Mapping[str, LightState]


@dataclass(frozen=True, slots=True)
class Observation:
    """All a planner may look at.

    Attributes:
        ego: Present state.
        state: (11,) the same with acceleration and steering, `StateIndex` columns.
        history: Past states, the present one included.
        surroundings: Road users and lights.
        road: Where to go.
        along_m: Where on the road's line the ego is.
    """

    ego: EgoState
    state: FloatArray
    history: EgoHistory
    surroundings: Surroundings
    road: Road
    along_m: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned trajectory.

    Attributes:
        poses_m: (T, 3) x, y, heading of the rear axle at dt_s, 2 dt_s, ..., map frame.
        dt_s: Time between poses.
        images: What the sensors saw, (H, W, 3) rgb by camera, left to right; empty without sensors.
        start_m: (3,) where the trajectory is beside the vehicle; None if it begins at the vehicle.
    """

    poses_m: FloatArray
    dt_s: float
    images: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    start_m: FloatArray | None = None


class Planner(Protocol):
    """Anything that can drive."""

    def plan(self, observation: Observation) -> Plan:
        """Plans from the present instant on, or returns its last plan to go on with it."""


class PlanError(ValueError):
    """A planner has failed, or its plan cannot be driven; the text says why."""


def checked_plan(planner: Planner, observation: Observation) -> Plan:
    """Lets a planner plan.

    Raises:
        PlanError: If it raises anything, or its plan is not (T, 3) finite poses that reach as far
            as the tracker needs: 4 s.
    """
    try:
        plan = planner.plan(observation)
    except Exception as error:  # Whatever a planner does wrong must not stop an evaluation.
        raise PlanError(f"planner: {type(error).__name__}: {error}") from error
    poses, dt_s = np.asarray(plan.poses_m), plan.dt_s
    if poses.ndim != 2 or poses.shape[1:] != (3,) or not np.isfinite(poses).all():
        raise PlanError(f"planner: expected (T, 3) finite poses, got shape {poses.shape}")
    if not (np.isfinite(dt_s) and dt_s > 0.0):
        raise PlanError(f"planner: dt_s is {dt_s}, expected > 0")
    if len(poses) * dt_s < HORIZON_STEPS * DT_S - 1e-6:
        raise PlanError(f"planner: {len(poses)} poses every {dt_s:g} s end before 4 s")
    return plan


def agent_kinds(classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns the `AgentKind` codes of `ObjectClass` codes."""
    kinds = [_KINDS.get(ObjectClass(int(code)), AgentKind.VEHICLE) for code in classes]
    return np.array(kinds, dtype=np.uint8)


def on_level(boxes: Boxes, ground_m: float) -> Boxes:
    """Returns the road users whose ground is less than `LEVEL_M` above or below another.

    Args:
        boxes: Road users.
        ground_m: Height of the road under the ego, map frame.
    """
    grounds_m = boxes.centers_m[:, 2] - 0.5 * boxes.sizes_m[:, 2]
    return boxes.select(np.abs(grounds_m - ground_m) < LEVEL_M)


def as_agents(boxes: Boxes) -> Agents:
    """Returns road users as the PDM score wants them, in one frame."""
    states = np.column_stack([boxes.centers_m[:, :2], boxes.yaws_rad, boxes.velocities_mps])
    return Agents(
        tokens=tuple(str(number) for number in boxes.ids),
        kinds=agent_kinds(boxes.classes),
        sizes_m=np.ascontiguousarray(boxes.sizes_m[:, :2]),
        states=np.ascontiguousarray(states[:, None]),
    )
