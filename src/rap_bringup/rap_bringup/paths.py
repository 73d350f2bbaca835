"""Where the files of the stack lie: in a checkout, or in the share folder of an installation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DEFAULT_BUNDLE = "models/default"
DEMO_DRIVE = "data/demo_drive"
FASTDDS_PROFILE = "config/fastdds_shm.xml"
PARAMS_FILE = "config/rap.param.yaml"
REPLAY_PARAMS = "config/replay.param.yaml"
SIM_PARAMS = "config/sim.param.yaml"
CHECKOUT_MARK = "src/rap_bringup"


def installed_prefixes() -> list[Path]:
    """Returns the ament prefixes of this environment, the most specific one first."""
    named = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return [Path(prefix) for prefix in named if prefix] + [Path(sys.prefix)]


def resource(relative: str) -> Path:
    """Finds a file or folder of the stack.

    Args:
        relative: Path inside the repository, such as `models/default`.

    Returns:
        The path in the checkout this code runs from, else in an installed `share/rap_bringup`.

    Raises:
        FileNotFoundError: If neither has it; the text says where was looked.
    """
    places = [
        place for place in Path(__file__).resolve().parents if (place / CHECKOUT_MARK).is_dir()
    ]
    places += [prefix / "share" / "rap_bringup" for prefix in installed_prefixes()]
    for place in places:
        if (place / relative).exists():
            return place / relative
    looked = ", ".join(str(place) for place in places)
    raise FileNotFoundError(f"{relative}: not found in {looked}")


def message_definitions() -> Path:
    """Returns the folder with the `.msg` files of rap_msgs.

    Raises:
        FileNotFoundError: If rap_msgs is not installed.
    """
    for prefix in installed_prefixes():
        folder = prefix / "share" / "rap_msgs" / "msg"
        if folder.is_dir():
            return folder
    raise FileNotFoundError("rap_msgs: not installed in this environment (run make setup)")
