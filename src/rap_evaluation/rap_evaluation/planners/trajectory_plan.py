"""The guard's trajectories as plans of the closed loop."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import shapely

from rap_evaluation.metrics.pdm_scene import HORIZON_STEPS
from rap_evaluation.planners.observation import Plan
from rap_planner.trajectory import STEP_S, along_paths, arcs_m
from rap_raster.frames import FloatArray

TRACKED = 5
"""Every fifth pose is tracked: the tracker of the PDM score, with which planners are compared,
takes poses 0.5 s apart and draws straight lines between them. At a planning instant these are the
poses of the plan itself; those between are interpolated by the guard, in its own way."""


def trajectory_plan(
    stamp_ns: int,
    poses_m: FloatArray,
    now_ns: int,
    place_m: FloatArray,
    images: Mapping[str, npt.NDArray[np.uint8]] | None = None,
) -> Plan:
    """Returns what is left of a trajectory, as a controller reads it that keeps to its path.

    Speeds are those that are due now, places go on from where the vehicle is beside the path. Were
    the plan to begin at the vehicle, the tracker would know of no deviation, and a stop in a bend,
    which is published anew in every cycle, would leave the bend; were it to go on where the vehicle
    should be, one that brakes late would be turned by a bend that lies behind it.

    Args:
        stamp_ns: Stamp of the trajectory.
        poses_m: (n, 3) x, y, yaw; pose k is at the stamp plus (k + 1) 0.1 s.
        now_ns: The present.
        place_m: (2,) or more: x, y of the vehicle now.
        images: What the sensors saw, by camera.

    Returns:
        At least 4 s; where the trajectory ends, the vehicle is to stand.
    """
    path_m = _from_its_stamp(poses_m)
    known_s = STEP_S * np.arange(len(path_m))
    age_s = max(0.0, 1e-9 * (now_ns - stamp_ns))
    count = max(HORIZON_STEPS, len(poses_m) - round(age_s / STEP_S)) // TRACKED
    due_s = age_s + TRACKED * STEP_S * np.arange(count + 1)
    due_m = np.interp(due_s, known_s, arcs_m(path_m))
    here_m = shapely.LineString(path_m[:, :2]).project(shapely.Point(place_m[:2]))
    tracked_m = along_paths(path_m[None], (here_m + due_m - due_m[0])[None])[0]
    return Plan(tracked_m[1:], TRACKED * STEP_S, images or {}, start_m=tracked_m[0])


def _from_its_stamp(poses_m: FloatArray) -> FloatArray:
    """Returns (n + 1, 3) poses from the stamp on, yaw continuous.

    The first one is not published: it is taken to lie on the parabola through the next three, which
    is millimetres from it where a vehicle drives.
    """
    poses_m = poses_m.copy()
    poses_m[:, 2] = np.unwrap(poses_m[:, 2])
    begin_m = np.array([3.0, -3.0, 1.0]) @ poses_m[:3] if len(poses_m) > 2 else poses_m[0]
    return np.concatenate([begin_m[None], poses_m])
