"""Where the CARLA towns are: OpenDRIVE files that come with the py123d package."""

from __future__ import annotations

import importlib.util
from pathlib import Path


class TrafficError(ValueError):
    """The traffic world cannot be set up; the message says what to do."""


def map_path(name: str) -> Path:
    """Returns the OpenDRIVE file that a town's name or a path means.

    Raises:
        TrafficError: If it is neither a .xodr or .xodr.gz path nor a town that is installed.
    """
    path = Path(name)
    return path if path.suffix in (".xodr", ".gz") else town_path(name)


def town_path(name: str) -> Path:
    """Returns the OpenDRIVE file of a town such as "Town01".

    py123d is only located, not imported: its own imports are heavy and not needed.

    Raises:
        TrafficError: If py123d is not installed or has no such town.
    """
    spec = importlib.util.find_spec("py123d")
    if spec is None or not spec.submodule_search_locations:
        raise TrafficError("the CARLA towns are not installed: run make setup")
    folder = Path(spec.submodule_search_locations[0]) / "parser" / "opendrive" / "carla_maps"
    path = folder / f"{name}.xodr.gz"
    if not path.is_file():
        known = ", ".join(sorted(p.name.removesuffix(".xodr.gz") for p in folder.glob("*.xodr.gz")))
        raise TrafficError(f"unknown town '{name}': expected one of {known}")
    return path
