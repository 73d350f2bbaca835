"""Message types of other stacks, which are only needed where they are used."""

from __future__ import annotations

import importlib
import os

from rap_raster.ros.conversions import MessageError


def message_class(name: str) -> type:
    """Returns the class of a message type.

    Args:
        name: Package and type, as in "vision_msgs/Detection3DArray".

    Raises:
        MessageError: If its package is not installed; the text says what to install.
    """
    package, kind = name.split("/")
    try:
        found: type = getattr(importlib.import_module(f"{package}.msg"), kind)
    except ImportError as error:
        distribution = os.environ.get("ROS_DISTRO", "jazzy")
        raise MessageError(
            f"{name} is not installed: apt install ros-{distribution}-{package.replace('_', '-')}"
        ) from error
    return found
