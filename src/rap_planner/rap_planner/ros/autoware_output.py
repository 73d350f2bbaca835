"""The guard's trajectory in the form that Autoware's controllers read.

Source: autoware_planning_msgs, Trajectory and TrajectoryPoint; and of Autoware Universe
pid_longitudinal_controller, which takes no notice of a trajectory with fewer than two points.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion

from rap_planner.bicycle import steering_angles
from rap_planner.trajectory import STEP_S, Trajectory
from rap_raster.frames import FloatArray
from rap_raster.ros.conversions import header
from rap_raster.ros.node import RapNode
from rap_raster.ros.optional_messages import message_class
from rap_raster.ros.qos import RESULT

TOPICS = {"active": "rap/autoware_trajectory", "shadow": "rap/shadow/autoware_trajectory"}
"""Mode of the guard node to topic."""

STANDING_LEAD_M = 1.0
"""Where the vehicle is to stand, a second point lies this far ahead, also with speed zero: one
point alone is ignored, and the controller would go on with what it had."""


class AutowareOutput:
    """Publishes trajectories as `autoware_planning_msgs/Trajectory`."""

    def __init__(self, node: RapNode, topic: str, map_frame: str, wheel_base_m: float) -> None:
        """Advertises the topic.

        Raises:
            MessageError: If autoware_planning_msgs is not installed.
        """
        kind = message_class("autoware_planning_msgs/Trajectory")
        point = message_class("autoware_planning_msgs/TrajectoryPoint")
        self._publisher = node.advertise(kind, topic, RESULT)
        self._convert = partial(
            autoware_msg, kind, point, frame_id=map_frame, wheel_base_m=wheel_base_m
        )
        self._last: tuple[Trajectory, Any] | None = None

    def publish(self, trajectory: Trajectory) -> None:
        """Publishes a trajectory in the map frame.

        Autoware knows nothing of one in the base frame, which is to stand: where one was published
        before, that is to be done where the last one began. Before the first odometry there is
        none, and no controller of Autoware's moves without odometry.
        """
        if not trajectory.in_map:
            if self._last is None:
                return
            last = self._last[0]
            trajectory = Trajectory(trajectory.stamp_ns, last.poses_m[:1], last.z_m)
        if self._last is None or self._last[0] is not trajectory:
            self._last = trajectory, self._convert(trajectory)
        self._publisher.publish(self._last[1])


def autoware_msg(
    kind: type, point: type, trajectory: Trajectory, *, frame_id: str, wheel_base_m: float
) -> Any:  # noqa: ANN401 - of a package that may be missing
    """Returns a trajectory as Autoware's message.

    Args:
        kind: The message class Trajectory.
        point: The message class TrajectoryPoint.
        trajectory: In the map frame.
        frame_id: Name of that frame.
        wheel_base_m: For the steering angles.
    """
    poses_m = trajectory.poses_m
    if len(poses_m) == 1:
        ahead_m = STANDING_LEAD_M * np.array([np.cos(poses_m[0, 2]), np.sin(poses_m[0, 2]), 0.0])
        poses_m = np.stack([poses_m[0], poses_m[0] + ahead_m])
        speeds_mps = turns_radps = np.zeros(2)
    else:
        speeds_mps, turns_radps = trajectory.speeds()
    steering_rad = steering_angles(speeds_mps, turns_radps, wheel_base_m)
    columns = np.column_stack(
        [poses_m, speeds_mps, np.gradient(speeds_mps, STEP_S), turns_radps, steering_rad]
    )
    message = kind(header=header(trajectory.stamp_ns, frame_id))
    message.points = [
        _point(point, (index + 1) * STEP_S, trajectory.z_m, row)
        for index, row in enumerate(columns)
    ]
    return message


def _point(point: type, after_s: float, z_m: float, row: FloatArray) -> Any:  # noqa: ANN401
    x_m, y_m, yaw_rad, speed_mps, gained_mps2, turn_radps, steering_rad = row.tolist()
    whole_s, rest_s = divmod(after_s, 1.0)
    return point(
        time_from_start=Duration(sec=int(whole_s), nanosec=round(rest_s * 1e9)),
        pose=Pose(
            position=Point(x=x_m, y=y_m, z=z_m),
            orientation=Quaternion(z=float(np.sin(0.5 * yaw_rad)), w=float(np.cos(0.5 * yaw_rad))),
        ),
        longitudinal_velocity_mps=speed_mps,
        acceleration_mps2=gained_mps2,
        heading_rate_rps=turn_radps,
        front_wheel_angle_rad=steering_rad,
    )
