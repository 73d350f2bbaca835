"""The driving stack in simulated traffic, in a closed loop. Takes all arguments of rap.launch.py.

`ros2 launch rap_bringup sim.launch.py map:=town.xodr`

The simulation owns the clock and moves the ego along rap/trajectory; the launch ends with it. How
often it is planned concerns several nodes, see config/sim.param.yaml.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from rap_bringup.processes import MALLOC

SHARE = Path(get_package_share_directory("rap_bringup"))
REMAPS = {
    "input_odometry": "odometry",
    "input_objects": "objects",
    "input_route": "route",
    "output_trajectory": "rap/trajectory",
    "output_state": "rap/state",
}
ARGUMENTS = {
    "mode": ("active", "as of rap.launch.py: the ego follows rap/trajectory"),
    "use_sim_time": ("true", "as of rap.launch.py: the simulation has the clock"),
    "sensor": ("raster", "camera: publish camera images too, for cameras.names in params_file"),
    "out": ("out/sim", "folder of the report"),
    "overrides_file": (str(SHARE / "config" / "sim.param.yaml"), "as of rap.launch.py"),
}
CHOICES = {"sensor": ["raster", "camera"]}
NUMBERS = {
    "routes": ("2", "how many, each of at least 300 m"),
    "seed": ("0", "of routes and traffic"),
}


def generate_launch_description() -> LaunchDescription:
    files = [LaunchConfiguration(name) for name in ("params_file", "overrides_file")]
    texts = {"map.path": "map", "bundle.path": "bundle", "sensor": "sensor", "out": "out"}
    values = {
        name: ParameterValue(LaunchConfiguration(argument), value_type=str)
        for name, argument in texts.items()
    }
    values |= {name: ParameterValue(LaunchConfiguration(name), value_type=int) for name in NUMBERS}
    simulation = Node(
        package="rap_evaluation",
        executable="sim_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[*files, {"autostart": LaunchConfiguration("autostart"), **values}],
        remappings=[(topic, LaunchConfiguration(name)) for name, topic in REMAPS.items()],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        additional_env={
            **MALLOC,
            "FASTRTPS_DEFAULT_PROFILES_FILE": LaunchConfiguration("fastdds_profile"),
        },
        on_exit=Shutdown(),
        output="screen",
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("map", description="OpenDRIVE file, .xodr or .xodr.gz"),
            *(
                DeclareLaunchArgument(
                    name,
                    default_value=default,
                    description=description,
                    choices=CHOICES.get(name),
                )
                for name, (default, description) in {**ARGUMENTS, **NUMBERS}.items()
            ),
            OpaqueFunction(function=_check),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / "launch" / "rap.launch.py"))
            ),
            simulation,
        ]
    )


def _check(context: LaunchContext) -> None:
    """Raises before anything is started, where this file is the last that could know."""
    get_package_prefix("rap_evaluation")
    for name in NUMBERS:
        int(context.launch_configurations[name])
