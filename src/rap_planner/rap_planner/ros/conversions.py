"""Planner messages to dataclasses and back."""

from __future__ import annotations

import numpy as np
from rap_msgs.msg import GuardState as GuardStateMsg
from rap_msgs.msg import TrajectoryCandidates

from rap_planner.candidates import Candidates
from rap_planner.guard import GuardDecision
from rap_planner.route import Command
from rap_raster.ego_history import EgoState
from rap_raster.ros.conversions import MessageError, check_frame, header, packed, stamp_ns


def candidates_msg(candidates: Candidates, map_frame: str) -> TrajectoryCandidates:
    """Converts candidates."""
    ego = candidates.ego
    count, poses, _ = candidates.poses_m.shape
    return TrajectoryCandidates(
        header=header(candidates.stamp_ns, map_frame),
        ego_pose=packed("d", np.array([ego.x_m, ego.y_m, ego.z_m, ego.yaw_rad])),
        ego_speed_mps=float(ego.vx_mps),
        dt_s=float(candidates.dt_s),
        num_candidates=count,
        num_poses=poses,
        poses=packed("d", candidates.poses_m),
        scores=packed("f", candidates.scores),
        uncertainty=float(candidates.uncertainty),
        command=int(candidates.command),
        command_source=candidates.command_source,
        inference_ms=float(candidates.inference_ms),
    )


def candidates_from_msg(message: TrajectoryCandidates, map_frame: str) -> Candidates:
    """Converts candidates. Finiteness is the guard's to check, not the converter's.

    Raises:
        MessageError: If the frame is another one, lengths disagree, there is no candidate, the
            command is unknown or the time step is not positive.
    """
    check_frame(message.header, map_frame)
    count, poses = message.num_candidates, message.num_poses
    if count == 0 or poses == 0 or len(message.scores) != count:
        raise MessageError(
            f"num_candidates {count}, num_poses {poses} and {len(message.scores)} scores, "
            "expected at least one of each and a score per candidate"
        )
    if len(message.poses) != 3 * count * poses or len(message.ego_pose) != 4:
        raise MessageError(
            f"poses has {len(message.poses)} values and ego_pose {len(message.ego_pose)}, "
            f"expected {3 * count * poses} and 4"
        )
    if not message.dt_s > 0 or not np.isfinite(message.dt_s):
        raise MessageError(f"dt_s: is {message.dt_s}, expected > 0")
    if message.command > max(Command):
        raise MessageError(f"command: is {message.command}, expected 0 to {int(max(Command))}")
    return _candidates(message)


def _candidates(message: TrajectoryCandidates) -> Candidates:
    x_m, y_m, z_m, yaw_rad = map(float, message.ego_pose)
    stamp = stamp_ns(message.header.stamp)
    shape = (message.num_candidates, message.num_poses, 3)
    return Candidates(
        stamp_ns=stamp,
        ego=EgoState(stamp, x_m, y_m, z_m, yaw_rad, message.ego_speed_mps, 0.0, 0.0),
        dt_s=round(message.dt_s, 6),  # float32 on the wire
        poses_m=np.asarray(message.poses).astype(np.float64).reshape(shape),
        scores=np.asarray(message.scores).astype(np.float32),
        uncertainty=message.uncertainty,
        command=Command(message.command),
        command_source=message.command_source,
        inference_ms=message.inference_ms,
    )


def guard_state_msg(decision: GuardDecision, now_ns: int, map_frame: str) -> GuardStateMsg:
    """Converts a decision of the guard."""
    index, age_s = decision.candidate_index, decision.candidate_age_s
    return GuardStateMsg(
        header=header(now_ns, map_frame),
        state=int(decision.state),
        reason=decision.reason,
        candidate_index=-1 if index is None else index,
        candidate_age_s=float("nan") if age_s is None else age_s,
        check_names=list(decision.checks),
        check_results=packed("B", np.array([int(c) for c in decision.checks.values()])),
    )
