"""The scene in which proposals of a sample are scored: the one the sample shows.

Everything is taken from the situation itself, so that score targets belong to the state the
proposals start from: the perturbed ego, the other vehicle's seat, the edited traffic.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rap_evaluation.expert.road_areas import RoadAreas
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.metrics.pdm_scene import STATE_SIZE, PdmScene, StateIndex
from rap_evaluation.metrics.pdm_simulator import WHEEL_BASE_M
from rap_evaluation.pseudo_sim.log_scene import Way, driven_way, log_scene, route_way
from rap_raster.ego_history import HISTORY_COLUMNS, EgoState
from rap_raster.frames import FloatArray, to_parent
from rap_training.augmentation.situation import Situation

_SPEED, _VALID = HISTORY_COLUMNS.index("vx_mps"), HISTORY_COLUMNS.index("valid")
_ROLLING_MPS = 1.0  # Below it, yaw rates over speeds are noise.


class ScoreScenes:
    """Makes score scenes of situations; keeps what the situations of a log and a seat share."""

    def __init__(self, history_dt_s: float) -> None:
        """Prepares.

        Args:
            history_dt_s: Time between the rows of situations' histories.
        """
        self._history_dt_s = history_dt_s
        self._areas: dict[DriveLog, RoadAreas] = {}
        self._ways: dict[tuple[DriveLog, int], Way] = {}

    def scene(self, situation: Situation) -> PdmScene | None:
        """Returns the scene of a situation, or None on a map without roads: nothing can be said."""
        log = situation.moment.log.origin
        if log not in self._areas:
            self._areas[log] = RoadAreas(log.map)
        state = initial_state(situation.ego, situation.history, self._history_dt_s)
        scene, _ = log_scene(situation.moment, state, self._areas[log], self._way(situation))
        return scene if len(scene.areas) else None

    def _way(self, situation: Situation) -> Way:
        log, seat = situation.moment.log.origin, situation.moment.seat
        lane_ids = log.route_lanes(seat)
        if lane_ids is None:
            here = situation.ego.planar
            return driven_way(np.vstack([here, to_parent(here, situation.path_m)]))
        if (log, seat) not in self._ways:
            self._ways[log, seat] = route_way(log.map.lanes, lane_ids)
        return self._ways[log, seat]


def initial_state(
    ego: EgoState, history: npt.NDArray[np.float32], history_dt_s: float
) -> FloatArray:
    """Returns the (11,) `StateIndex` state of an ego.

    Args:
        ego: Now.
        history: (S, 7) rows of `HISTORY_COLUMNS`, the last one now: the acceleration is the change
            of speed since the row before it, 0 where that is not valid.
        history_dt_s: Time between the rows.
    """
    state = np.zeros(STATE_SIZE)
    state[: StateIndex.AX] = ego.x_m, ego.y_m, ego.yaw_rad, ego.vx_mps, ego.vy_mps
    state[StateIndex.ANGULAR_VELOCITY] = ego.yaw_rate_radps
    if len(history) > 1 and history[-2, _VALID]:
        state[StateIndex.AX] = (ego.vx_mps - float(history[-2, _SPEED])) / history_dt_s
    if ego.vx_mps > _ROLLING_MPS:
        curvature = ego.yaw_rate_radps / ego.vx_mps
        state[StateIndex.STEERING_ANGLE] = np.arctan(WHEEL_BASE_M * curvature)
        state[StateIndex.AY] = ego.vx_mps * ego.yaw_rate_radps
    return state
