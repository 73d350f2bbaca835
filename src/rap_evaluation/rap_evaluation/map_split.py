"""Which maps train and which validate: decided once, here and nowhere else.

No other CARLA town is ever used for training or tuning, and no town is in both groups. Maps of
your own are yours to split.
"""

from __future__ import annotations

import re

TRAIN_MAPS = ("Town01", "Town03", "Town04", "Town06")
"""CARLA towns that training logs are recorded on."""

VALIDATION_MAPS = ("Town02", "Town05")
"""CARLA towns that figures of trained planners on unseen roads come from."""

_CARLA_TOWN = re.compile(r"Town\d\d")


def may_train(map_name: str) -> bool:
    """True unless the map is a CARLA town outside `TRAIN_MAPS`."""
    return map_name in TRAIN_MAPS or not _CARLA_TOWN.match(map_name)
