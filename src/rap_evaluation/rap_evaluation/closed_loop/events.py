"""What goes wrong on a drive: collisions with their fault, leaving the road, red lights.

Who is to blame and what is road is decided by the functions of the PDM score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

from rap_evaluation.closed_loop.ego_vehicle import FRONT_M
from rap_evaluation.closed_loop.place import Place
from rap_evaluation.closed_loop.routes import Route
from rap_evaluation.metrics import pdm_kernels as kernels
from rap_evaluation.metrics.pdm_scene import Agents, StateIndex
from rap_evaluation.planners.observation import as_agents, on_level
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import polyline_length
from rap_raster.scene import Boxes, LightState, ObjectClass

STOPPED_MPS = 0.05
"""Slower is standing. Source: NAVSIM `pdm_scorer.py`."""

BEHIND_RAD = np.radians(150.0)
"""Centres at a larger angle from the heading are behind. Source: NAVSIM `pdm_scorer.py`."""

STOP_LINE_M = 0.5
"""How far the front may stand over a stop line before it has run the light: projecting the front on
the route's line is exact to some decimetres in bends."""


class ContactKind(Enum):
    """How the ego met a road user; the first that fits. Source: NAVSIM `pdm_scorer.py`.

    A contact is typed when it begins, and keeps its kind while it lasts: NAVSIM too leaves alone a
    track that it has seen touch. Who stood is said of that step, not of the time before.
    """

    STOPPED_EGO = "the ego stood"
    STOPPED_TRACK = "it stood"
    REAR = "from behind"
    FRONT = "with its front"
    LATERAL = "side to side"


@dataclass(frozen=True, slots=True)
class Collision:
    """The first touch of a contact.

    Attributes:
        step: When, steps of 0.1 s.
        track: Id of the road user's box.
        object_class: Of the road user.
        kind: How they met.
        at_fault: True if the ego is to blame.
    """

    step: int
    track: int
    object_class: ObjectClass
    kind: ContactKind
    at_fault: bool


@dataclass(slots=True)
class Events:
    """Everything that went wrong so far.

    Attributes:
        collisions: With whoever, at fault or not.
        off_road_m: Steps at which a corner was off the road, and how far the farthest one.
        off_lane_steps: Steps at which the centre was in no lane of the route and none beside it in
            the same direction, outside junctions: on the other side of the road, for example.
        red_light_steps: Steps at which the front crossed a stop line at red.
    """

    collisions: list[Collision] = field(default_factory=list)
    off_road_m: dict[int, float] = field(default_factory=dict)
    off_lane_steps: list[int] = field(default_factory=list)
    red_light_steps: list[int] = field(default_factory=list)


class Watch:
    """Sees what goes wrong, step by step."""

    def __init__(self, place: Place, route: Route) -> None:
        """Prepares to watch one drive.

        Args:
            place: Where.
            route: Of the ego.
        """
        self.events = Events()
        self._surface = place.surface.along(route.lane_ids)
        self._touching: frozenset[int] = frozenset()
        self._route = route
        self._stop_lines = _stop_lines(place, route)
        self._front_m = np.inf

    def step(
        self,
        step: int,
        state: FloatArray,
        along_m: float,
        boxes: Boxes,
        signals: Mapping[str, LightState],
    ) -> None:
        """Looks at one step.

        Args:
            step: Its number.
            state: (11,) ego state of the rear axle.
            along_m: Where on the route's line the rear axle is.
            boxes: Road users near the ego.
            signals: Lights of the mapped connectors, by lane id.
        """
        ground_m = float(self._route.at(along_m)[2])
        flags = self._surface.flags(state, ground_m)
        if flags[kernels.NON_DRIVABLE]:
            self.events.off_road_m[step] = self._surface.off_road_m(state, ground_m)
        if flags[kernels.ONCOMING] and not flags[kernels.CENTER_IN_JUNCTION]:
            self.events.off_lane_steps.append(step)
        met = contacts(state, flags, on_level(boxes, ground_m), step)
        self.events.collisions += [c for c in met if c.track not in self._touching]
        self._touching = frozenset(collision.track for collision in met)
        front_m = along_m + FRONT_M
        for line_m, lane in self._stop_lines:
            crossed = self._front_m < line_m + STOP_LINE_M <= front_m
            if crossed and signals[lane] == LightState.RED:
                self.events.red_light_steps.append(step)
        self._front_m = front_m


def contacts(
    state: FloatArray, flags: npt.NDArray[np.bool_], boxes: Boxes, step: int
) -> list[Collision]:
    """Returns a collision for every road user that touches the ego at one step.

    Args:
        state: (11,) ego state of the rear axle.
        flags: (5,) as `Surface.flags` returns them.
        boxes: Road users.
        step: Number of the step.
    """
    agents = as_agents(boxes)
    overlaps = kernels.initial_overlaps(state, agents.states, agents.sizes_m)
    met = []
    for row in np.flatnonzero(overlaps).tolist():
        with_front = _is_at_fault(state, np.zeros_like(flags), agents, row)
        met.append(
            Collision(
                step=step,
                track=int(boxes.ids[row]),
                object_class=ObjectClass(int(boxes.classes[row])),
                kind=_kind(state, agents.states[row, 0], with_front=with_front),
                at_fault=_is_at_fault(state, flags, agents, row),
            )
        )
    return met


def _is_at_fault(state: FloatArray, flags: npt.NDArray[np.bool_], agents: Agents, row: int) -> bool:
    """Asks the PDM score whether the ego is to blame for touching one agent."""
    score, _ = kernels.collisions(
        state[None, None],
        flags[None, None],
        agents.states[[row]],
        agents.kinds[[row]],
        agents.sizes_m[[row]],
    )
    return bool(score[0] < 1.0)


def _kind(state: FloatArray, agent: FloatArray, *, with_front: bool) -> ContactKind:
    """Names a contact; the front is what the ego is to blame for even in its own lane."""
    if np.hypot(state[StateIndex.VX], state[StateIndex.VY]) <= STOPPED_MPS:
        return ContactKind.STOPPED_EGO
    if np.hypot(agent[3], agent[4]) <= STOPPED_MPS:
        return ContactKind.STOPPED_TRACK
    if with_front:
        return ContactKind.FRONT
    dx, dy = agent[:2] - state[:2]
    bearing = abs(float(wrap_angle(np.arctan2(dy, dx) - state[StateIndex.HEADING])))
    return ContactKind.REAR if bearing > BEHIND_RAD else ContactKind.LATERAL


def _stop_lines(place: Place, route: Route) -> list[tuple[float, str]]:
    """Returns where on the route's line which signalled connector begins."""
    lines, along_m = [], 0.0
    for key in route.lane_ids:
        lane = place.map.lanes[key]
        if key in route.junctions and place.turns[key].traffic_light is not None:
            lines.append((along_m, key))
        along_m += polyline_length(lane.centerline_m)
    return lines
