"""The driving stack in simulation: `ros2 launch rap_bringup sim.launch.py map:=TOWN.xodr out:=DIR`.

The launch ends with the simulation, which ends with its last route.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("rap_bringup"))
PASSED_ON = {
    "namespace": "",
    "params_file": str(SHARE / "config" / "rap.param.yaml"),
    "autostart": "true",
    "log_level": "info",
    "bundle": str(SHARE / "models" / "default"),
}
SIMULATION = {
    "routes": ("2", "how many, each of at least 300 m"),
    "seed": ("0", "of routes and traffic"),
    "replan_hz": ("2", "planning instants a second: 1, 2, 5 or 10"),
}


def generate_launch_description() -> LaunchDescription:
    stack = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "rap.launch.py")),
        launch_arguments={
            "use_sim_time": "true",
            "mode": "active",
            "map": LaunchConfiguration("map"),
            **{name: LaunchConfiguration(name) for name in PASSED_ON},
        }.items(),
    )
    whole_numbers = {
        name: ParameterValue(LaunchConfiguration(name), value_type=int) for name in SIMULATION
    }
    simulation = Node(
        package="rap_evaluation",
        executable="sim_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "map.path": LaunchConfiguration("map"),
                "out": LaunchConfiguration("out"),
                "bundle.path": LaunchConfiguration("bundle"),
                **whole_numbers,
            },
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        on_exit=Shutdown(),
        output="screen",
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("map", description="OpenDRIVE file: .xodr or .xodr.gz"),
            DeclareLaunchArgument("out", description="folder of the report; made if missing"),
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in SIMULATION.items()
            ),
            *(
                DeclareLaunchArgument(name, default_value=default)
                for name, default in PASSED_ON.items()
            ),
            stack,
            simulation,
        ]
    )
