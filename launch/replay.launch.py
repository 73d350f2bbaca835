"""The driving stack on a recorded drive: `ros2 launch rap_bringup replay.launch.py bag:=FOLDER`."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

SHARE = Path(get_package_share_directory("rap_bringup"))
QOS_FILE = str(SHARE / "config" / "replay_qos.yaml")
PASSED_ON = {
    "namespace": "",
    "params_file": str(SHARE / "config" / "rap.param.yaml"),
    "autostart": "true",
    "log_level": "info",
}


def generate_launch_description() -> LaunchDescription:
    stack = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "rap.launch.py")),
        launch_arguments={
            "use_sim_time": "true",
            "mode": "active",
            **{name: LaunchConfiguration(name) for name in PASSED_ON},
        }.items(),
    )
    options = ["--clock", "--start-offset", "0", "--qos-profile-overrides-path", QOS_FILE]
    player = ExecuteProcess(
        cmd=["ros2", "bag", "play", LaunchConfiguration("bag"), *options],
        on_exit=Shutdown(),
        output="screen",
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 folder"),
            *(
                DeclareLaunchArgument(name, default_value=default)
                for name, default in PASSED_ON.items()
            ),
            stack,
            player,
        ]
    )
