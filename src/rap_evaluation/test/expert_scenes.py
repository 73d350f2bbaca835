"""Roads and drives for the tests of the expert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rap_evaluation.expert.pdm_closed import PdmClosed
from rap_evaluation.metrics.pdm_scene import (
    STATE_SIZE,
    AgentKind,
    Agents,
    Area,
    AreaMap,
    PdmScene,
    RedLights,
    StateIndex,
)
from rap_evaluation.metrics.pdm_simulator import simulate
from rap_raster.frames import FloatArray

LIMIT_MPS = 12.0
STOP_LINE_M = 60.0
CONNECTOR_ROW = 3
ROAD_M = (-50.0, 300.0)
HALF_LANE_M = 1.75
REPLAN_STEPS = 5


def agents_of(*rows: tuple[AgentKind, float, float, float, float, float, float, float]) -> Agents:
    """Returns agents from kind, length, width, x, y, heading, vx, vy, frame 0 only."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    return Agents(
        tokens=tuple(str(i) for i in range(len(table))),
        kinds=table[:, 0].astype(np.uint8),
        sizes_m=table[:, 1:3],
        states=np.ascontiguousarray(table[:, None, 3:]),
    )


def straight_road(
    speed_mps: float, agents: Agents | None = None, *, red: bool = False, offset_m: float = 0.0
) -> PdmScene:
    """Returns a lane along +x with a neighbour on its left and a signalled connector ahead."""
    low, high, half = *ROAD_M, HALF_LANE_M
    rings = [
        _box(low, high, -half, 3 * half),
        _box(low, high, -half, half),
        _box(low, high, half, 3 * half),
        _box(STOP_LINE_M, STOP_LINE_M + 20.0, -half, half),
    ]
    areas = AreaMap(
        ids=("road", "lane", "left", "connector"),
        kinds=np.array([Area.ROADBLOCK, Area.LANE, Area.LANE, Area.LANE_CONNECTOR], dtype=np.uint8),
        on_route=np.array([False, True, True, True]),
        offsets=np.cumsum([0, *map(len, rings)], dtype=np.int64),
        points_m=np.concatenate(rings),
    )
    state = np.zeros(STATE_SIZE)
    state[StateIndex.Y], state[StateIndex.VX] = offset_m, speed_mps
    x = np.arange(low, high)
    return PdmScene(
        initial_state=state,
        areas=areas,
        centerline_m=np.column_stack([x, np.zeros_like(x), np.zeros_like(x)]),
        agents=agents if agents is not None else agents_of(),
        red_lights=RedLights(np.array([CONNECTOR_ROW]), np.array([[red]])),
    )


def limits(scene: PdmScene) -> FloatArray:
    """Returns the same speed limit everywhere."""
    return np.full(len(scene.centerline_m), LIMIT_MPS)


def drive(
    planner: PdmClosed,
    scene: PdmScene,
    plans: int,
    agents_at: Callable[[float], Agents] | None = None,
) -> FloatArray:
    """Drives in closed loop, a plan every 0.5 s; returns (5 plans + 1, 11) states every 0.1 s."""
    states = [scene.initial_state]
    for i in range(plans):
        if agents_at is not None:
            scene = replace(scene, agents=agents_at(0.1 * REPLAN_STEPS * i))
        poses = planner.plan(scene, limits(scene))
        driven = simulate(scene.initial_state, poses[None])[0]
        states += list(driven[1 : REPLAN_STEPS + 1])
        scene = replace(scene, initial_state=driven[REPLAN_STEPS])
    return np.array(states)


def _box(x0: float, x1: float, y0: float, y1: float) -> FloatArray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
