"""The sub-scores of the PDM score, each by its definition; `pdm_score` puts them together.

Sources: autonomousvision/navsim, `pdm_scorer.py` and `pdm_scorer_utils.py`; v1 at 3e8291bf, v2 at
0a380a90. C plans are measured at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rap_evaluation.metrics import pdm_kernels as kernels
from rap_evaluation.metrics.pdm_scene import HORIZON_STEPS, Agents, AreaMap, PdmScene, StateIndex
from rap_raster.frames import FloatArray
from rap_raster.vehicle import PACIFICA

Version = Literal["v1", "v2"]
BoolArray = npt.NDArray[np.bool_]

_TTC_LAST_STEP = {"v1": HORIZON_STEPS, "v2": HORIZON_STEPS - 9}
"""v2 looks only as far as agents are known: 9 steps of look-ahead must end within 4 s."""

_WRONG_WAY_WINDOW = 11
_WRONG_WAY_M = (2.0, 6.0)
_LANE_KEEPING_M = 0.5
_LANE_KEEPING_STEPS = 20


@dataclass(frozen=True, slots=True)
class Measures:
    """How C plans do, each by itself.

    Attributes:
        no_at_fault_collisions: (C,) 0, 0.5 or 1.
        drivable_area_compliance: (C,) 0 or 1.
        driving_direction_compliance: (C,) 0, 0.5 or 1.
        traffic_light_compliance: (C,) 0 or 1.
        time_to_collision_within_bound: (C,) 0 or 1.
        lane_keeping: (C,) 0 or 1.
        progress_m: (C,) metres along the centreline, not negative.
        first_collision_step: (C,) first step of a collision at fault, or `pdm_kernels.NEVER`.
        first_ttc_step: (C,) first step from which one is foreseen, or `pdm_kernels.NEVER`.
        areas: (C, T, 5) flags of `pdm_kernels.ego_areas`.
    """

    no_at_fault_collisions: FloatArray
    drivable_area_compliance: FloatArray
    driving_direction_compliance: FloatArray
    traffic_light_compliance: FloatArray
    time_to_collision_within_bound: FloatArray
    lane_keeping: FloatArray
    progress_m: FloatArray
    first_collision_step: npt.NDArray[np.int64]
    first_ttc_step: npt.NDArray[np.int64]
    areas: BoolArray


def ego_areas(areas: AreaMap, states: FloatArray) -> BoolArray:
    """Returns (C, T, 5) in which areas the ego is at each of (C, T, 11) states."""
    index = kernels.index_areas(areas.kinds, areas.on_route, areas.offsets, areas.points_m)
    flags: BoolArray = kernels.ego_areas(index, states)
    return flags


def measure(
    scene: PdmScene, states: FloatArray, version: Version, areas: BoolArray | None = None
) -> Measures:
    """Measures driven plans.

    Args:
        scene: Where and among whom.
        states: (C, 41, 11) simulated states; see `pdm_simulator.simulate`.
        version: Of the benchmark.
        areas: `ego_areas` of the states, if they are known already.
    """
    if areas is None:
        areas = ego_areas(scene.areas, states)
    agents = scene.agents
    score, first = kernels.collisions(states, areas, agents.states, agents.kinds, agents.sizes_m)
    ttc_step = kernels.times_to_collision(
        states, areas, agents.states, agents.sizes_m, _TTC_LAST_STEP[version]
    )
    centers = box_centers(states)
    return Measures(
        no_at_fault_collisions=score,
        drivable_area_compliance=drivable_area_compliance(areas),
        driving_direction_compliance=driving_direction_compliance(centers, areas, version),
        traffic_light_compliance=traffic_light_compliance(scene, states),
        time_to_collision_within_bound=np.where(ttc_step < kernels.NEVER, 0.0, 1.0),
        lane_keeping=lane_keeping(centers, areas, scene.centerline_m),
        progress_m=progress_m(centers, scene.centerline_m),
        first_collision_step=first,
        first_ttc_step=ttc_step,
        areas=areas,
    )


def box_centers(states: FloatArray) -> FloatArray:
    """Returns the (C, T, 2) centres of the ego's box, whose states are the rear axle's."""
    heading = states[..., StateIndex.HEADING]
    forward = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    return np.asarray(states[..., :2] + PACIFICA.rear_axle_to_center_m * forward)


def drivable_area_compliance(areas: BoolArray) -> FloatArray:
    """DAC: 0 where a corner leaves the drivable areas at any step, else 1.

    Drivable are roadblocks, intersections and car parks; connectors of roadblocks are not, so that
    inside a junction only its intersection counts. Source: NAVSIM, `pdm_scorer.py`.
    """
    return np.where(areas[..., kernels.NON_DRIVABLE].any(axis=1), 0.0, 1.0)


def driving_direction_compliance(
    centers_m: FloatArray, areas: BoolArray, version: Version
) -> FloatArray:
    """DDC: 1, 0.5 or 0 by the way driven off the route's lanes within 1 s: 2 m, 6 m or more.

    v2 forgives what is driven inside an intersection. Source: NAVSIM, `pdm_scorer.py` (v2:431-474).
    """
    moved = np.zeros(centers_m.shape[:2])
    moved[:, 1:] = np.linalg.norm(np.diff(centers_m, axis=1), axis=-1)
    counted = areas[..., kernels.ONCOMING]
    if version == "v2":
        counted = counted & ~areas[..., kernels.CENTER_IN_JUNCTION]
    total = np.cumsum(np.where(counted, moved, 0.0), axis=1)
    before = np.zeros_like(total)
    before[:, _WRONG_WAY_WINDOW:] = total[:, :-_WRONG_WAY_WINDOW]
    worst = (total - before).max(axis=1)
    return np.select([worst < limit for limit in _WRONG_WAY_M], [1.0, 0.5], 0.0)


def traffic_light_compliance(scene: PdmScene, states: FloatArray) -> FloatArray:
    """TLC: 0 where the ego's box touches a connector of the route while it is red, else 1.

    Source: NAVSIM v2, `pdm_scorer.py:582-613`.
    """
    lights = scene.red_lights
    rows = np.flatnonzero(scene.areas.on_route[lights.areas])
    run = kernels.red_lights_run(
        states, scene.areas.offsets, scene.areas.points_m, lights.areas[rows], lights.red[rows]
    )
    return np.where(run, 0.0, 1.0)


def lane_keeping(centers_m: FloatArray, areas: BoolArray, centerline_m: FloatArray) -> FloatArray:
    """LK: 0 where the centre is over 0.5 m off the centreline for 2 s in a row, else 1.

    Steps inside an intersection neither count nor start anew. Source: NAVSIM v2,
    `pdm_scorer.py:615-654`.
    """
    _, distance_m = kernels.along_line(centerline_m, centers_m.reshape(-1, 2))
    off = distance_m.reshape(centers_m.shape[:2]) > _LANE_KEEPING_M
    longest = kernels.longest_runs(off, ~areas[..., kernels.CENTER_IN_JUNCTION])
    return np.where(longest >= _LANE_KEEPING_STEPS, 0.0, 1.0)


def progress_m(centers_m: FloatArray, centerline_m: FloatArray) -> FloatArray:
    """Returns (C,) metres that the centre moves along the centreline, 0 where it moves back.

    Source: NAVSIM, `pdm_scorer.py`, `_calculate_progress`.
    """
    ends = centers_m[:, [0, -1]].reshape(-1, 2)
    along, _ = kernels.along_line(centerline_m, ends)
    start, end = along.reshape(-1, 2).T
    return np.asarray(np.maximum(0.0, end - start))


def without_initial_overlaps(scene: PdmScene) -> Agents:
    """Returns the agents without those that touch the ego at the start, as v2's log replay does.

    Source: NAVSIM v2, `log_replay_traffic_agents.py:41-68`.
    """
    agents = scene.agents
    touching = kernels.initial_overlaps(scene.initial_state, agents.states, agents.sizes_m)
    rows = np.flatnonzero(~touching)
    return Agents(
        tuple(agents.tokens[row] for row in rows),
        agents.kinds[rows],
        agents.sizes_m[rows],
        agents.states[rows],
    )
