"""What is around the ego at one instant, whatever planner or judge asks."""

from __future__ import annotations

from dataclasses import dataclass

from rap_raster.scene import Boxes, Lights


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One instant of the world, the ego left out.

    Attributes:
        boxes: Road users; an id stays with its road user.
        lights: Traffic lights.
        red_lanes: Ids of the mapped connectors that are closed.
    """

    boxes: Boxes
    lights: Lights
    red_lanes: frozenset[str]
