"""Which maps train and which validate: decided once, here and nowhere else.

No other map is ever used for training or tuning, and no map is in both groups.
"""

from __future__ import annotations

TRAIN_MAPS = ("Town01", "Town03", "Town04", "Town06")
"""CARLA towns that training logs are recorded on."""

VALIDATION_MAPS = ("Town02", "Town05")
"""CARLA towns that every reported figure comes from."""
