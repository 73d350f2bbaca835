"""Messages of the guard as recordings hold them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rap_bringup.bag_types import Message, header, message

POSE_NS = 100_000_000


def state_message(stamp_ns: int, state: int, reason: str = "") -> Message:
    return message(
        "rap_msgs/msg/GuardState",
        header=header(stamp_ns, "map"),
        state=state,
        reason=reason,
        candidate_index=0,
        candidate_age_s=0.1,
        check_names=["shift", "collision"],
        check_results=np.array([1, 2], dtype=np.uint8),
        check_modes=np.array([2, 2], dtype=np.uint8),
        check_rejections=np.array([0, 16], dtype=np.uint32),
        num_candidates=64,
    )


def trajectory_message(stamp_ns: int, places_m: Iterable[tuple[float, float]]) -> Message:
    """Poses along +x at (x, y), 0.1 s apart from 0.1 s after the stamp on."""
    poses = []
    for k, (x, y) in enumerate(places_m, start=1):
        pose = message(
            "geometry_msgs/msg/Pose",
            position=message("geometry_msgs/msg/Point", x=x, y=y, z=0.0),
            orientation=message("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        )
        stamped = header(stamp_ns + k * POSE_NS, "map")
        poses.append(message("geometry_msgs/msg/PoseStamped", header=stamped, pose=pose))
    return message("nav_msgs/msg/Path", header=header(stamp_ns, "map"), poses=poses)
