"""Declared parameters: each node lists them in a table, everything else is an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

BUILT_IN = ("use_sim_time", "start_type_description_service")
"""Declared by rclpy itself."""

QOS_OVERRIDES = "qos_overrides."
"""Declared by rclpy when a topic is first used."""


class ParameterError(ValueError):
    """A parameter that cannot be used; the text names it, its value and what was expected."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One parameter of a node.

    Attributes:
        name: Full name, with dots.
        default: Also fixes the type.
        description: For `ros2 param describe`.
        low: Smallest value of a number.
        high: Largest value of a number.
        choices: Allowed texts; empty: any.
    """

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


BUNDLE_PATH = Declared("bundle.path", "", "folder of the model bundle")
CAMERA_NAMES = Declared("cameras.names", [""], "cameras in use; not set: none")
MAP_FRAME = Declared("frames.map", "map", "frame of odometry, objects, map, route and trajectory")
BASE_FRAME = Declared("frames.base", "base_link", "rear axle, on the ground")
ODOMETRY_WAIT = Declared(
    "sync.odometry_wait_s", 0.03, "how long a step waits for odometry of its stamp", 0.0, 1.0
)
AUTOSTART = Declared("autostart", True, "configure and activate without a lifecycle manager")


def declare(node: Node, table: Sequence[Declared]) -> None:
    """Declares parameters, read-only: nothing changes how a vehicle drives while it does.

    Raises:
        ParameterError: If an override has the wrong type or is out of range.
    """
    for entry in table:
        descriptor = ParameterDescriptor(
            description=entry.description,
            additional_constraints=" | ".join(entry.choices),
            read_only=True,
        )
        if entry.low is not None and entry.high is not None:
            _set_range(descriptor, entry.low, entry.high, isinstance(entry.default, int))
        try:
            value = node.declare_parameter(entry.name, entry.default, descriptor).value
        except ParameterException as error:
            raise ParameterError(" ".join(str(error).split())) from error
        if entry.choices and value not in entry.choices:
            expected = ", ".join(entry.choices)
            raise ParameterError(f"{entry.name}: is {value!r}, expected one of {expected}")


def declare_numbers(
    node: Node, name: str, description: str, *, required: bool
) -> list[float] | None:
    """Declares a list of numbers, and returns it, or None where it is not set.

    Raises:
        ParameterError: If it is required and not set, or not a list of floating-point numbers.
    """
    descriptor = ParameterDescriptor(description=description, read_only=True)
    try:
        parameter = node.declare_parameter(name, Parameter.Type.DOUBLE_ARRAY, descriptor)
    except ParameterException as error:
        raise ParameterError(" ".join(str(error).split())) from error
    if parameter.value is not None:
        return list(parameter.value)
    if required:
        raise ParameterError(f"{name}: is not set ({description})")
    return None


def texts(node: Node, name: str) -> list[str]:
    """Returns a list of texts without the "" that stands for an empty list."""
    return [text for text in node.get_parameter(name).value if text]


def check_all_declared(node: Node, overrides: Sequence[str]) -> None:
    """Makes sure that everything set from outside is a parameter of this node.

    Args:
        node: The node, all parameters declared.
        overrides: Names set in parameter files, on the command line or by the constructor.

    Raises:
        ParameterError: Names the first unknown parameter and lists the known ones.
    """
    for name in overrides:
        if name in BUILT_IN or name.startswith(QOS_OVERRIDES) or node.has_parameter(name):
            continue
        known = sorted(set(node.get_parameters_by_prefix("")) - set(BUILT_IN))
        raise ParameterError(f"{name}: unknown parameter, {node.get_name()} has {', '.join(known)}")


def check_qos_overrides(node: Node, overrides: Sequence[str]) -> None:
    """Makes sure that every override of a profile is for a topic of this node.

    Args:
        node: The node, all topics in use.
        overrides: As for `check_all_declared`.

    Raises:
        ParameterError: Names the first that is for none, and lists the topics.
    """
    declared = [QOS_OVERRIDES + name for name in node.get_parameters_by_prefix(QOS_OVERRIDES[:-1])]
    for name in overrides:
        if name.startswith(QOS_OVERRIDES) and name not in declared:
            known = ", ".join(sorted({entry.rpartition(".")[0] for entry in declared}))
            raise ParameterError(f"{name}: unknown parameter, {node.get_name()} has {known}")


def _set_range(descriptor: ParameterDescriptor, low: float, high: float, whole: bool) -> None:
    if whole:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    else:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high))
        ]
