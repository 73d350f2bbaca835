"""What is around the ego at one instant, whatever planner or judge asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rap_evaluation.metrics.pdm_scene import AgentKind, Agents
from rap_raster.scene import Boxes, Lights, LightState, ObjectClass

_KINDS = {ObjectClass.PEDESTRIAN: AgentKind.PEDESTRIAN, ObjectClass.BICYCLE: AgentKind.BICYCLE}


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


def as_agents(boxes: Boxes) -> Agents:
    """Returns road users as the PDM score wants them, in one frame."""
    kinds = [_KINDS.get(ObjectClass(int(code)), AgentKind.VEHICLE) for code in boxes.classes]
    states = np.column_stack([boxes.centers_m[:, :2], boxes.yaws_rad, boxes.velocities_mps])
    return Agents(
        tokens=tuple(str(number) for number in boxes.ids),
        kinds=np.array(kinds, dtype=np.uint8),
        sizes_m=np.ascontiguousarray(boxes.sizes_m[:, :2]),
        states=np.ascontiguousarray(states[:, None]),
    )
