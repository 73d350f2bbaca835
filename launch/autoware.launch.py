"""The driving stack with the topic names of Autoware. Takes rap.launch.py's arguments.

`ros2 launch rap_bringup autoware.launch.py map:=lanelet2_map.osm`
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

SHARE = Path(get_package_share_directory("rap_bringup"))

PRESET = {
    "overrides_file": str(SHARE / "config" / "autoware.param.yaml"),
    "input_odometry": "/localization/kinematic_state",
    "input_objects": "/perception/object_recognition/tracking/objects",
    "input_lanelet_route": "/planning/mission_planning/route",
    "output_autoware_trajectory": "/planning/trajectory",
}


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("map", description="Lanelet2 file that routes are planned on"),
            *(
                DeclareLaunchArgument(name, default_value=value, description="as of rap.launch.py")
                for name, value in PRESET.items()
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / "launch" / "rap.launch.py"))
            ),
        ]
    )
