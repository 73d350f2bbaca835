"""The driving stack on a recorded drive: `ros2 launch rap_bringup replay.launch.py bag:=FOLDER`.

Takes all arguments of rap.launch.py.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

SHARE = Path(get_package_share_directory("rap_bringup"))
QOS_FILE = str(SHARE / "config" / "replay_qos.yaml")
PRESET = {
    "mode": "active",
    "use_sim_time": "true",
    "overrides_file": str(SHARE / "config" / "replay.param.yaml"),
}


def generate_launch_description() -> LaunchDescription:
    options = ["--clock", "--start-offset", "0", "--qos-profile-overrides-path", QOS_FILE]
    player = ["ros2", "bag", "play", LaunchConfiguration("bag"), *options]
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 folder"),
            *(
                DeclareLaunchArgument(name, default_value=value, description="as of rap.launch.py")
                for name, value in PRESET.items()
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / "launch" / "rap.launch.py"))
            ),
            ExecuteProcess(cmd=player, on_exit=Shutdown(), output="screen"),
        ]
    )
