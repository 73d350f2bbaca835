"""What the PDM score looks at: the ego, the areas of the map, the agents and the red lights.

Plain arrays, whatever they come from: a case file, a log or a running simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from rap_raster.frames import FloatArray

DT_S = 0.1
"""Step of simulation and score. Source: NAVSIM, `pdm_scorer.py`."""

HORIZON_STEPS = 40
"""Steps of a plan: 4 s. Source: NAVSIM, `proposal_sampling`."""

STATES = HORIZON_STEPS + 1
"""States of a simulated plan, the present one included."""


class StateIndex(IntEnum):
    """Columns of a simulated ego state, of the rear axle."""

    X = 0
    Y = 1
    HEADING = 2
    VX = 3
    VY = 4
    AX = 5
    AY = 6
    STEERING_ANGLE = 7
    STEERING_RATE = 8
    ANGULAR_VELOCITY = 9
    ANGULAR_ACCELERATION = 10


STATE_SIZE = len(StateIndex)


class Area(IntEnum):
    """Layers of the map that the score tells apart."""

    ROADBLOCK = 0
    INTERSECTION = 1
    CARPARK = 2
    LANE = 3
    LANE_CONNECTOR = 4


class AgentKind(IntEnum):
    """Kinds of agents that the score tells apart."""

    VEHICLE = 0
    PEDESTRIAN = 1
    BICYCLE = 2
    STATIC = 3


@dataclass(frozen=True, slots=True)
class AreaMap:
    """P polygons near the ego.

    Attributes:
        ids: (P,) names.
        kinds: (P,) `Area` codes.
        on_route: (P,) True for lanes and lane connectors of the route.
        offsets: (P + 1,) int64, where each polygon starts in `points_m`.
        points_m: (M, 2) corners in order, either winding, map frame; a ring may repeat its first
            corner at its end.
    """

    ids: tuple[str, ...]
    kinds: npt.NDArray[np.uint8]
    on_route: npt.NDArray[np.bool_]
    offsets: npt.NDArray[np.int64]
    points_m: FloatArray

    def __len__(self) -> int:
        """Returns the number of polygons."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Agents:
    """N agents over T steps, frame 0 is now.

    Attributes:
        tokens: (N,) names.
        kinds: (N,) `AgentKind` codes.
        sizes_m: (N, 2) length and width.
        states: (N, T, 5) x, y, heading of the box centre, vx, vy in the map frame; all NaN where
            an agent is absent.
    """

    tokens: tuple[str, ...]
    kinds: npt.NDArray[np.uint8]
    sizes_m: FloatArray
    states: FloatArray

    def __len__(self) -> int:
        """Returns the number of agents."""
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class RedLights:
    """When lane connectors are closed.

    Attributes:
        areas: (R,) int64 rows of the `AreaMap`: lane connectors.
        red: (R, T) bool per step; the last one holds.
    """

    areas: npt.NDArray[np.int64]
    red: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PdmScene:
    """One moment to score plans at.

    Attributes:
        initial_state: (11,) `StateIndex` state of the rear axle in the map frame, velocity and
            acceleration in the ego frame.
        areas: The map.
        centerline_m: (n, 3) x, y, heading of the path that progress is measured along.
        agents: What moves or stands around.
        red_lights: Which connectors are closed.
    """

    initial_state: FloatArray
    areas: AreaMap
    centerline_m: FloatArray
    agents: Agents
    red_lights: RedLights
