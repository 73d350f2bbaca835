"""Constant velocity: the baseline that every planner must beat."""

from __future__ import annotations

import numpy as np

from rap_evaluation.planners.observation import Observation, Plan
from rap_raster.frames import to_parent

HORIZON_S = 5.0
"""As long as the default bundle plans."""

_STEP_S = 0.5


class ConstantVelocity:
    """Drives straight on at the present speed."""

    def plan(self, observation: Observation) -> Plan:
        """Plans straight ahead."""
        times_s = np.arange(_STEP_S, HORIZON_S + 1e-6, _STEP_S)
        ahead = np.zeros((len(times_s), 3))
        ahead[:, 0] = observation.ego.vx_mps * times_s
        return Plan(to_parent(observation.ego.planar, ahead), _STEP_S)
