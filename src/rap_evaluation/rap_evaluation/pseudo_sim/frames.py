"""One frame of the pseudo-simulation: a planner plans from a start, and the plan is scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_evaluation.expert.pdm_closed import PdmClosed
from rap_evaluation.kept_arrays import KEEP_NOTHING, KeptArrays
from rap_evaluation.metrics.comfort import history_samples
from rap_evaluation.metrics.frame_score import SUB_SCORES
from rap_evaluation.metrics.pdm import PdmCase, score_v2
from rap_evaluation.metrics.pdm_scene import DT_S
from rap_evaluation.metrics.pdm_simulator import resample, simulate
from rap_evaluation.planners.observation import Planner, checked_plan
from rap_evaluation.pseudo_sim.seat_drive import SeatDrive, Start
from rap_raster.frames import FloatArray, to_local

COMFORT_STEPS = np.array([-15, -10, -5, 0])
"""Of history comfort: 2 Hz, as the data sets have it. Source: NAVSIM v2."""

PLAN = "plan"


@dataclass(frozen=True, slots=True)
class Frame:
    """A scored plan.

    Attributes:
        start: Where it starts.
        time_s: When.
        start_m: (2,) rear axle at the start.
        endpoint_m: (2,) where the plan is after 4 s.
        sub_scores: (8,) columns `frame_score.SUB_SCORES`.
        states: (41, 11) simulated states.
    """

    start: Start
    time_s: float
    start_m: FloatArray
    endpoint_m: FloatArray
    sub_scores: FloatArray
    states: FloatArray


def score_frame(
    drive: SeatDrive,
    start: Start,
    planner: Planner,
    expert: PdmClosed,
    kept: KeptArrays = KEEP_NOTHING,
) -> Frame:
    """Plans once and scores the plan by NAVSIM v2, in traffic as it was recorded.

    In recorded scenes the human filter is applied; the progress of the plan is compared with that
    of PDM-Closed, whose plans are kept where `kept` says.

    Raises:
        PlanError: If the planner fails or its plan cannot be used.
    """
    scene, limits_mps = drive.scene(start)
    pose = scene.initial_state[:3]
    poses_m = _planned(drive, start, planner, pose)
    case = PdmCase(
        names=(PLAN,),
        scene=scene,
        candidate_poses_m=poses_m[None],
        reference_poses_m=kept.array(
            "references",
            lambda: expert.plan(scene, limits_mps),
            lambda: (drive.log.digest, drive.seat, repr(start)),
        ),
        history=_history(drive, start),
        human_poses_m=None if start.follow_up else drive.driven(start.step),
        reactive_agents={},
        human_reactive_agents=None,
    )
    rows = score_v2(case)[PLAN]
    row = rows["non_reactive" if start.follow_up else "non_reactive_human_filter"]
    return Frame(
        start=start,
        time_s=start.step * DT_S,
        start_m=pose[:2],
        endpoint_m=poses_m[-1, :2],
        sub_scores=np.array([row[name] for name in SUB_SCORES]),
        states=simulate(scene.initial_state, poses_m[None])[0],
    )


def _planned(drive: SeatDrive, start: Start, planner: Planner, pose: FloatArray) -> FloatArray:
    """Returns the plan as (41, 3) poses every 0.1 s."""
    plan = checked_plan(planner, drive.observation(start))
    resampled: FloatArray = resample(to_local(pose, plan.poses_m)[None], plan.dt_s, pose)[0]
    return resampled


def _history(drive: SeatDrive, start: Start) -> FloatArray:
    states = drive.states(start, start.step + COMFORT_STEPS)[:, :7]
    return history_samples(COMFORT_STEPS * DT_S, states)
