"""The guard's trajectories as plans of the closed loop."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from rap_evaluation.metrics.pdm_scene import HORIZON_STEPS
from rap_evaluation.planners.observation import Plan
from rap_planner.trajectory import STEP_S
from rap_raster.frames import FloatArray

TRACKED = 5
"""Every fifth pose is tracked: the tracker of the PDM score, with which planners are compared,
takes poses 0.5 s apart and draws straight lines between them. At a planning instant these are the
poses of the plan itself; those between are interpolated by the guard, in its own way."""


def trajectory_plan(
    stamp_ns: int,
    poses_m: FloatArray,
    now_ns: int,
    images: Mapping[str, npt.NDArray[np.uint8]] | None = None,
) -> Plan:
    """Returns what is left of a trajectory, at least 4 s; where it ends, the vehicle is to stand.

    Args:
        stamp_ns: Stamp of the trajectory.
        poses_m: (n, 3) x, y, yaw; pose k is at the stamp plus (k + 1) 0.1 s.
        now_ns: The present.
        images: What the sensors saw, by camera.
    """
    passed = max(0, round(1e-9 * (now_ns - stamp_ns) / STEP_S))
    left = poses_m[min(passed, len(poses_m) - 1) :]
    missing = max(0, HORIZON_STEPS - len(left))
    rest = np.concatenate([left, np.repeat(left[-1:], missing, axis=0)])
    return Plan(rest[TRACKED - 1 :: TRACKED], TRACKED * STEP_S, images or {})
