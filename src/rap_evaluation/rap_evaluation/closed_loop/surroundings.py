"""What is around the ego at one instant, whatever planner or judge asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rap_raster.scene import Boxes, Lights, LightState


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
