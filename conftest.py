"""What all tests have in common."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

LONGEST = (
    "test_shards",
    "test_commands",
    "test_replay",
    "test_pseudo_sim",
    "test_fit",
    "test_tensorrt",
    "test_closed_loop_drive",
    "test_faults",
    "test_closed_loop_planners",
    "test_experiments",
    "test_traffic_world",
    "test_sim",
    "test_camera_sim",
    "test_metrics_pdm",
    "test_graph_processes",
    "test_recovery",
    "test_workspace",
    "test_planner_ranking",
)
"""Files of more than half a minute, which begin first: no worker is left alone with one of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; within a file nothing changes."""
    place = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))
