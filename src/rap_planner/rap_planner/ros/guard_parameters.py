"""The parameters of the guard, and what the guard makes of them.

Every default stands once, in the settings of the library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rap_planner.bicycle import BicycleLimits
from rap_planner.checks import CHECKS, DEFAULT_MODES, CheckLimits, Mode
from rap_planner.guard import GuardSettings
from rap_raster.ros.parameters import Declared
from rap_raster.vehicle import VehicleDimensions

TOPICS = {"active": "rap/trajectory", "shadow": "rap/shadow/trajectory"}
MRM_TOPICS = {"active": "rap/mrm_request", "shadow": "rap/shadow/mrm_request"}
"""Mode of the node to topic: nothing that acts may hear a guard in shadow."""

_MODES = tuple(mode.name.lower() for mode in Mode)
_LIMITS, _BICYCLE, _SETTINGS = CheckLimits(), BicycleLimits(), GuardSettings()


def _limit(name: str, description: str, low: float, high: float) -> Declared:
    return Declared(f"limits.{name}", getattr(_LIMITS, name), description, low, high)


def _bicycle(name: str, description: str, low: float, high: float) -> Declared:
    return Declared(f"limits.{name}", getattr(_BICYCLE, name), description, low, high)


CHECK_LIMITS = (
    _limit("candidate_age_s", "oldest candidates to follow", 0.01, 60.0),
    _limit("odometry_age_s", "oldest odometry to trust", 0.01, 60.0),
    _limit("objects_age_s", "oldest objects to avoid; older ones are no input", 0.01, 60.0),
    _limit("start_position_m", "begin of candidates to odometry", 0.0, 100.0),
    _limit("start_heading_rad", "begin of candidates to odometry", 0.0, 3.2),
    _limit("start_speed_mps", "begin of candidates to odometry", 0.0, 100.0),
    _limit("shift_horizon_s", "how far ahead shifts are measured", 0.1, 10.0),
    _limit("shift_lateral_m", "shift across the followed trajectory", 0.0, 100.0),
    _limit("shift_longitudinal_m", "lead of who gains speed over what is followed", 0.0, 1000.0),
    _limit("road_horizon_s", "how far ahead the ego must be on the road", 0.1, 10.0),
    _limit("road_margin_m", "how far corners of the ego may reach over the edge", 0.0, 5.0),
    _limit("collision_horizon_s", "how far ahead boxes must not meet", 0.1, 10.0),
    _limit("clearance_ahead_m", "room to keep before and behind the ego", 0.01, 10.0),
    _limit("clearance_aside_m", "room to keep to its sides", 0.01, 3.0),
    _limit("response_delay_s", "time constant with which the vehicle follows speeds", 0.0, 5.0),
    _limit("response_preview_s", "how far ahead its controller looks at speeds", 0.0, 2.0),
    _limit("missing_cameras", "camera slots that may be without features", 0, 64),
    _limit("alignment_distance", "largest distance of camera and raster features", 0.0, 100.0),
    _limit("uncertainty", "largest uncertainty of the planner", 0.0, 1.0),
)

BICYCLE_LIMITS = (
    _bicycle("acceleration_mps2", "of a trajectory, forwards", 0.1, 20.0),
    _bicycle("braking_mps2", "of a trajectory and of the hardest stop", 0.5, 20.0),
    _bicycle("lateral_acceleration_mps2", "of a trajectory", 0.1, 20.0),
    _bicycle("steering_rate_radps", "of the front wheels, mean over 0.5 s", 0.01, 20.0),
    _bicycle("slip_rad", "heading to motion at the rear axle, turn on the spot", 0.01, 1.5),
    _bicycle("reverse_m", "how far a trajectory may roll backwards or slide aside", 0.0, 100.0),
)

VEHICLE = (
    Declared("vehicle.length_m", _LIMITS.body.length_m, "bumper to bumper", 0.5, 30.0),
    Declared("vehicle.width_m", _LIMITS.body.width_m, "with mirrors", 0.3, 5.0),
    Declared(
        "vehicle.rear_axle_to_center_m",
        _LIMITS.body.rear_axle_to_center_m,
        "centre of the box ahead of the rear axle",
        -15.0,
        15.0,
    ),
    Declared("vehicle.wheel_base_m", _BICYCLE.wheel_base_m, "axle to axle", 0.3, 20.0),
    Declared("vehicle.max_steering_rad", _BICYCLE.max_steering_rad, "front wheels", 0.05, 1.5),
)

REACTIONS = (
    Declared("hold_s", _SETTINGS.hold_s, "how long the last valid trajectory is held", 0.0, 2.0),
    Declared("resume_cycles", _SETTINGS.resume_cycles, "good cycles that end a stop", 1, 1000),
    Declared("stop.deceleration_mps2", _SETTINGS.deceleration_mps2, "controlled stop", 0.1, 9.0),
    Declared("stop.jerk_mps3", _SETTINGS.jerk_mps3, "controlled stop", 0.1, 20.0),
    Declared("mrm.after_s", _SETTINGS.mrm_after_s, "longest stop before a request", 0.0, 600.0),
    Declared(
        "mrm.resume_cycles",
        _SETTINGS.mrm_resume_cycles,
        "good cycles, standing, that end a request",
        1,
        10000,
    ),
)

GUARD_PARAMETERS: tuple[Declared, ...] = (
    Declared("mode", "shadow", "active | shadow", choices=tuple(TOPICS)),
    Declared("rate_hz", 20.0, "lowest output rate, by the wall clock", 20.0, 100.0),
    Declared(
        "autoware_trajectory",
        "auto",
        "also publish autoware_planning_msgs/Trajectory: on | off | auto: where it is installed",
        choices=("auto", "on", "off"),
    ),
    *(
        Declared(
            f"checks.{name}",
            DEFAULT_MODES[name].name.lower(),
            "enforce" if name == "finite" else " | ".join(reversed(_MODES)),
            # What is no number must never reach a controller.
            choices=("enforce",) if name == "finite" else _MODES,
        )
        for name in CHECKS
    ),
    *CHECK_LIMITS,
    *BICYCLE_LIMITS,
    *VEHICLE,
    *REACTIONS,
)


def guard_settings(parameter: Callable[[str], Any]) -> GuardSettings:
    """Builds the settings from parameter values.

    Args:
        parameter: Returns the value of a parameter.
    """
    bicycle = {
        entry.name.removeprefix("limits."): parameter(entry.name) for entry in BICYCLE_LIMITS
    }
    limits = {entry.name.removeprefix("limits."): parameter(entry.name) for entry in CHECK_LIMITS}
    return GuardSettings(
        limits=CheckLimits(
            **limits,
            bicycle=BicycleLimits(
                **bicycle,
                wheel_base_m=parameter("vehicle.wheel_base_m"),
                max_steering_rad=parameter("vehicle.max_steering_rad"),
            ),
            body=VehicleDimensions(
                length_m=parameter("vehicle.length_m"),
                width_m=parameter("vehicle.width_m"),
                height_m=_LIMITS.body.height_m,
                rear_axle_to_center_m=parameter("vehicle.rear_axle_to_center_m"),
            ),
        ),
        modes={name: Mode[parameter(f"checks.{name}").upper()] for name in CHECKS},
        hold_s=parameter("hold_s"),
        resume_cycles=parameter("resume_cycles"),
        deceleration_mps2=parameter("stop.deceleration_mps2"),
        jerk_mps3=parameter("stop.jerk_mps3"),
        mrm_after_s=parameter("mrm.after_s"),
        mrm_resume_cycles=parameter("mrm.resume_cycles"),
    )
