"""Planner messages to dataclasses and back."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
from rap_msgs.msg import Float64Stamped, TrajectoryCandidates
from rap_msgs.msg import GuardState as GuardStateMsg
from rap_msgs.msg import TrackedObjects as TrackedObjectsMsg
from std_msgs.msg import Header

from rap_planner.candidates import Candidates
from rap_planner.guard import GuardDecision
from rap_planner.route import Command
from rap_raster.ego_history import EgoState
from rap_raster.features import FeatureSource
from rap_raster.frames import MAX_PLACE_M
from rap_raster.observations import TrackedObjects
from rap_raster.ros.conversions import (
    MessageError,
    check_frame,
    header,
    objects_from_msg,
    packed,
    stamp_ns,
    time_msg,
)

MIN_HORIZON_S, MAX_HORIZON_S = 1.0, 30.0
"""A shorter plan is no plan: the guard could not stop on it. A longer one is a broken number."""

MAX_CANDIDATES = 128
"""More would take the guard longer than its cycle; a planner proposes 64."""

MAX_POSES = 300
"""Of one candidate; 30 s in steps of 0.1 s."""

MAX_SIZE_M = 100.0
"""Nobody on a road is larger."""

STAMP_END = 12
"""Where the stamp of a serialized message ends that begins with a header, after its encoding."""

_POSE_BYTES = 56


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
        camera_sources=packed("B", candidates.camera_sources),
        alignment_distance=float(candidates.alignment_distance),
    )


def candidates_from_msg(message: TrajectoryCandidates, map_frame: str) -> Candidates:
    """Converts candidates. Finiteness is the guard's to check, not the converter's.

    Raises:
        MessageError: If the frame is another one, lengths disagree, there is no candidate or far
            too many, a code is unknown, or the poses cover no usable time.
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
    for name, value, most in (
        ("num_candidates", count, MAX_CANDIDATES),
        ("num_poses", poses, MAX_POSES),
    ):
        if value > most:
            raise MessageError(f"{name}: is {value}, expected at most {most}")
    if not (message.dt_s > 0 and MIN_HORIZON_S <= poses * round(message.dt_s, 6) <= MAX_HORIZON_S):
        raise MessageError(
            f"dt_s: is {message.dt_s} for {poses} poses, expected > 0 and "
            f"{MIN_HORIZON_S:.0f} to {MAX_HORIZON_S:.0f} s in all"
        )
    if message.command > max(Command):
        raise MessageError(f"command: is {message.command}, expected 0 to {int(max(Command))}")
    if max(message.camera_sources, default=0) > max(FeatureSource):
        raise MessageError(
            f"camera_sources: are {list(message.camera_sources)}, "
            f"expected 0 to {int(max(FeatureSource))}"
        )
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
        camera_sources=np.asarray(message.camera_sources).astype(np.uint8),
        alignment_distance=message.alignment_distance,
    )


def usable_objects(message: TrackedObjectsMsg, map_frame: str) -> tuple[TrackedObjects, str]:
    """Converts objects for the guard, which must not rely on perception having checked them.

    Those whose place or size on the ground is not a number to calculate with are left out, so that
    the others stay known. Unknown velocities are allowed.

    Returns:
        The objects, and what is wrong with those left out; empty if none is.

    Raises:
        MessageError: If the frame is another one or lengths disagree.
    """
    objects = objects_from_msg(message, map_frame)
    boxes = objects.boxes
    table = np.column_stack([boxes.centers_m, boxes.yaws_rad, boxes.sizes_m[:, :2]])
    sizes_m = table[:, 4:]
    in_reach = (np.abs(table) <= MAX_PLACE_M).all(axis=1)
    good = np.asarray(in_reach & ((sizes_m > 0.0) & (sizes_m <= MAX_SIZE_M)).all(axis=1))
    if good.all():
        return objects, ""
    first, bad = int(np.argmin(good)), int((~good).sum())
    kept = replace(
        objects,
        boxes=boxes.select(good),
        ages_s=objects.ages_s[good],
        existences=objects.existences[good],
    )
    problem = f"object {first}: place or size is not usable: {table[first].tolist()}"
    return kept, problem if bad == 1 else f"{problem}, and {bad - 1} more"


def last_pose(serialized: bytes, map_frame: str) -> bytes:
    """Returns the last pose of a serialized `nav_msgs/Path`, empty where there is none.

    Its layout is that of CDR (OMG, DDS-XTypes 7.4.3): stamp, frame, number of poses, poses; a pose
    is seven doubles.

    Raises:
        MessageError: If it is in another frame, too short, or ends at no place.
    """
    order = "<" if serialized[1] & 1 else ">"
    try:
        (length,) = struct.unpack_from(f"{order}I", serialized, STAMP_END)
        frame = serialized[STAMP_END + 4 : STAMP_END + 3 + length].decode(errors="replace")
        (count,) = struct.unpack_from(f"{order}I", serialized, (STAMP_END + 7 + length) // 4 * 4)
    except struct.error as error:
        raise MessageError(f"too short: {len(serialized)} bytes") from error
    check_frame(Header(frame_id=frame), map_frame)
    if not count:
        return b""
    try:
        values = struct.unpack(f"{order}7d", serialized[-_POSE_BYTES:])
    except struct.error as error:
        raise MessageError(f"too short: {len(serialized)} bytes") from error
    if not (np.isfinite(values).all() and np.abs(values[:3]).max() <= MAX_PLACE_M):
        raise MessageError(f"its last pose is no place: {values}")
    return serialized[-_POSE_BYTES:]


def number_msg(stamp: int, value: float) -> Float64Stamped:
    """Returns a measured number with the stamp, in nanoseconds, of what it was measured on."""
    return Float64Stamped(stamp=time_msg(stamp), data=float(value))


def guard_state_msg(decision: GuardDecision, now_ns: int, map_frame: str) -> GuardStateMsg:
    """Converts a decision of the guard."""
    index, age_s = decision.candidate_index, decision.candidate_age_s
    outcomes = decision.outcomes.values()
    rejections = [0 if o.verdict is None else int((~o.verdict.passed).sum()) for o in outcomes]
    return GuardStateMsg(
        header=header(now_ns, map_frame),
        state=int(decision.state),
        reason=decision.reason,
        candidate_index=-1 if index is None else index,
        candidate_age_s=float("nan") if age_s is None else age_s,
        check_names=list(decision.checks),
        check_results=packed("B", np.array([int(c) for c in decision.checks.values()])),
        check_modes=packed("B", np.array([int(outcome.mode) for outcome in outcomes])),
        check_rejections=packed("I", np.array(rejections)),
        num_candidates=decision.count,
    )
