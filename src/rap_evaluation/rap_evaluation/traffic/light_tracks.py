"""Traffic lights of a simulation, placed on the map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_evaluation.logs.recording import LightTracks
from rap_evaluation.traffic.ground import Ground
from rap_evaluation.traffic.network import Connection, Network
from rap_evaluation.traffic.turn_lanes import turn_lanes
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import distances_along
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import LightState

LIGHT_BEYOND_LINE_M = 15.0
"""How far beyond the stop line a light hangs, straight ahead of the lane it stops.

Whoever stands at the line has it 12 to 15 degrees above the horizon: a camera without a look
upwards sees it change.
"""

LIGHT_SPACING_M = 1.2
"""Lights of turns hang this far beside the light of the way straight on."""

TURN_RAD = np.deg2rad(30.0)
"""A lane that turns by more leads left or right."""

LIGHT_HEIGHT_M = 5.5
"""Height of a light's centre above the road."""

LIGHT_SIZE_M = (0.5, 0.5, 1.0)
"""Length, width and height of a light's box."""

# u is red and yellow, s is the green arrow at red; both mean: not yet.
_STATES = {"g": LightState.GREEN, "y": LightState.YELLOW, "u": LightState.RED,
           "r": LightState.RED, "s": LightState.RED}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LightHeads:
    """L traffic lights: one per lane that enters a signalled junction and direction it can go.

    Attributes:
        signals: L ids of SUMO's lights.
        links: L places in the states of those lights.
        lane_ids: L ids of the map lanes they govern, empty where unknown.
        centers_m: (L, 3) map frame.
        yaws_rad: (L,) direction they shine towards.
    """

    signals: tuple[str, ...]
    links: tuple[int, ...]
    lane_ids: tuple[str, ...]
    centers_m: FloatArray
    yaws_rad: FloatArray

    @property
    def sizes_m(self) -> FloatArray:
        """(L, 3) length, width and height."""
        return np.tile(LIGHT_SIZE_M, (len(self.signals), 1))

    def states(self, text: Mapping[str, str]) -> npt.NDArray[np.uint8]:
        """Returns (L,) `LightState` codes from SUMO's state text per light."""
        states = [
            light_state(text[signal][link])
            for signal, link in zip(self.signals, self.links, strict=True)
        ]
        return np.array(states, dtype=np.uint8)


def light_state(letter: str) -> LightState:
    """Returns what a letter of SUMO's state text means to a driver."""
    return _STATES.get(letter.lower(), LightState.UNKNOWN)


def light_heads(network: Network, vector_map: VectorMap, ground: Ground) -> LightHeads:
    """Places the lights of a network on its map."""
    unique: dict[tuple[str, int, str], int] = {}
    for index, connection in enumerate(network.connections):
        if connection.traffic_light is not None:
            key = (connection.from_edge, connection.from_lane, connection.direction)
            unique.setdefault(key, index)
    lanes = turn_lanes(network, vector_map)
    connections = [network.connections[index] for index in unique.values()]
    placed = [_light_place(connection, network, ground) for connection in connections]
    return LightHeads(
        signals=tuple(c.traffic_light or "" for c in connections),
        links=tuple(c.link for c in connections),
        lane_ids=tuple(lanes[index] for index in unique.values()),
        centers_m=np.array([center for center, _ in placed]).reshape(-1, 3),
        yaws_rad=np.array([yaw for _, yaw in placed]),
    )


def light_tracks(heads: LightHeads, text: Mapping[str, Sequence[str]], steps: int) -> LightTracks:
    """Returns lights over a number of steps from SUMO's state texts per light."""
    states = [
        heads.states({signal: texts[step] for signal, texts in text.items()})
        for step in range(steps)
    ]
    return LightTracks(
        lane_ids=heads.lane_ids,
        centers_m=heads.centers_m,
        sizes_m=heads.sizes_m,
        yaws_rad=heads.yaws_rad,
        states=np.array(states, dtype=np.uint8).reshape(steps, len(heads.signals)),
    )


def _light_place(
    connection: Connection, network: Network, ground: Ground
) -> tuple[FloatArray, float]:
    """Returns a light's (3,) centre and the direction it shines: against the lane it stops."""
    shape = connection.shape_m.copy()
    shape[:, :2] = network.to_map(shape[:, :2])
    place, yaw = light_over(shape)
    place[2] = ground.height(place[None])[0] + LIGHT_HEIGHT_M
    return place, yaw


def light_over(line_m: FloatArray) -> tuple[FloatArray, float]:
    """Returns where the light of a lane of a junction hangs.

    Args:
        line_m: (n, 3) centreline on the ground, map frame.

    Returns:
        (3,) its centre, and the direction it shines: against the lane it stops.
    """
    along = distances_along(line_m)
    first = line_m[np.searchsorted(along, min(1.0, along[-1]))] - line_m[0]
    last = line_m[-1] - line_m[np.searchsorted(along, max(along[-1] - 1.0, 0.0), side="right") - 1]
    entry, leaving = (float(np.arctan2(way[1], way[0])) for way in (first, last))
    turn = float(wrap_angle(leaving - entry))
    left_m = LIGHT_SPACING_M * float(np.sign(turn)) * (abs(turn) > TURN_RAD)
    ahead, left = (
        np.array([np.cos(entry), np.sin(entry)]),
        np.array([-np.sin(entry), np.cos(entry)]),
    )
    place = line_m[0] + np.array([0.0, 0.0, LIGHT_HEIGHT_M])
    place[:2] += LIGHT_BEYOND_LINE_M * ahead + left_m * left
    return place, float(wrap_angle(entry + np.pi))
