"""What the simulation publishes and receives, as messages."""

from __future__ import annotations

import numpy as np
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo

from rap_evaluation.planners.graph_planner import Trajectory
from rap_evaluation.planners.observation import Surroundings
from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoState
from rap_raster.observations import TrackedObjects
from rap_raster.ros.conversions import MessageError, check_frame, header, stamp_ns


def odometry_msg(ego: EgoState, map_frame: str, base_frame: str) -> Odometry:
    """Converts an ego state."""
    message = Odometry(header=header(ego.stamp_ns, map_frame), child_frame_id=base_frame)
    pose, twist = message.pose.pose, message.twist.twist
    pose.position.x, pose.position.y, pose.position.z = ego.x_m, ego.y_m, ego.z_m
    pose.orientation.z = float(np.sin(0.5 * ego.yaw_rad))
    pose.orientation.w = float(np.cos(0.5 * ego.yaw_rad))
    twist.linear.x, twist.linear.y = ego.vx_mps, ego.vy_mps
    twist.angular.z = ego.yaw_rate_radps
    return message


def seen_objects(nanoseconds: int, around: Surroundings) -> TrackedObjects:
    """Returns surroundings as what a detector without faults reports."""
    count = len(around.boxes)
    return TrackedObjects(
        stamp_ns=nanoseconds,
        boxes=around.boxes,
        lights=around.lights,
        ages_s=np.zeros(count, np.float32),
        existences=np.ones(count, np.float32),
    )


def camera_info_msg(nanoseconds: int, camera: CameraModel) -> CameraInfo:
    """Converts a camera without lens distortion."""
    message = CameraInfo(
        header=header(nanoseconds, camera.name),
        width=camera.width,
        height=camera.height,
        distortion_model="plumb_bob",
    )
    message.d = [0.0] * 5
    message.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    return message


def trajectory_from_msg(message: Path, map_frame: str) -> Trajectory:
    """Converts rap/trajectory.

    Raises:
        MessageError: If the frame is another one, there is no pose, or one is not finite.
    """
    check_frame(message.header, map_frame)
    poses = [(pose.pose.position, pose.pose.orientation) for pose in message.poses]
    poses_m = np.array([(p.x, p.y, 2.0 * np.arctan2(q.z, q.w)) for p, q in poses]).reshape(-1, 3)
    if not len(poses_m) or not np.isfinite(poses_m).all():
        raise MessageError(f"{len(poses_m)} poses, expected at least one and all finite")
    return Trajectory(stamp_ns(message.header.stamp), poses_m)
