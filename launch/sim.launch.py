"""The driving stack in simulated traffic, in a closed loop. Takes all arguments of rap.launch.py.

The simulation owns the clock and moves the ego along rap/trajectory; it ends the launch with it.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("rap_bringup"))
REMAPPED = ("odometry", "objects", "route")


def generate_launch_description() -> LaunchDescription:
    files = [LaunchConfiguration(name) for name in ("params_file", "overrides_file")]
    remaps = [(topic, LaunchConfiguration(f"input_{topic}")) for topic in REMAPPED]
    simulation = Node(
        package="rap_evaluation",
        executable="sim_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[*files, {"autostart": LaunchConfiguration("autostart")}],
        remappings=[*remaps, ("rap/trajectory", LaunchConfiguration("output_trajectory"))],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        on_exit=Shutdown(),
        output="screen",
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("mode", default_value="active"),
            DeclareLaunchArgument("use_sim_time", default_value="true"),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / "launch" / "rap.launch.py"))
            ),
            simulation,
        ]
    )
