"""A planner that waits for good goes on; one that waits for a reason waits."""

from __future__ import annotations

import numpy as np
import pytest

from rap_planner.patience import Patience
from rap_raster.ego_history import EgoState

DT_S = 0.5
TIMES_S = DT_S * np.arange(1, 11)


def along(way_m) -> list[list[float]]:
    return [[0.8 * x, 0.6 * x] for x in way_m]


PLACES_M = np.array(
    [
        along(0.0 * TIMES_S),
        along(0.8 * TIMES_S),  # Creeps 4 m.
        along(1.0 * TIMES_S**2),
        along(3.0 * np.maximum(TIMES_S - 2.0, 0.0) ** 2),  # Stands for two seconds, then 27 m.
    ]
)


def ego(at_s: float, speed_mps: float = 0.0) -> EgoState:
    return EgoState(round(at_s * 1e9), 0.0, 0.0, 0.0, 0.0, speed_mps, 0.0, 0.0)


def losses(patience: Patience, at_s: float, speed_mps: float = 0.0) -> list[float]:
    return patience.losses(ego(at_s, speed_mps), PLACES_M, DT_S).tolist()


def waited(patience: Patience, from_s: float, to_s: float) -> list[float]:
    """Plans twice a second while the vehicle stands; returns the last losses."""
    return [losses(patience, at_s) for at_s in np.arange(from_s, to_s + 0.1, 0.5)][-1]


def test_what_stays_loses_from_some_time_on_and_only_so_much():
    patience = Patience(10.0)
    assert losses(patience, 100.0) == waited(patience, 100.5, 110.0) == [0.0, 0.0, 0.0, 0.0]
    standing, creeping, going, postponing = waited(patience, 110.5, 116.0)
    assert standing == creeping == postponing > 0.0
    assert going == 0.0
    assert waited(patience, 116.5, 150.0) == waited(patience, 150.5, 200.0)


def test_time_in_which_nothing_is_planned_is_no_wait():
    """A planner that was switched off meanwhile, or another clock: it has not waited."""
    patience = Patience(10.0)
    assert losses(patience, 0.0) == losses(patience, 1.7e9) == [0.0, 0.0, 0.0, 0.0]
    waited(patience, 1.7e9, 1.7e9 + 9.0)
    assert losses(patience, 1.7e9 + 12.0) == [0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(("at_s", "speed_mps"), [(150.0, 1.0), (5.0, 0.0)])
def test_who_moves_or_begins_a_new_drive_has_not_waited(at_s, speed_mps):
    patience = Patience(10.0)
    losses(patience, 100.0)
    assert losses(patience, at_s, speed_mps) == [0.0, 0.0, 0.0, 0.0]
    assert losses(patience, at_s + 5.0) == [0.0, 0.0, 0.0, 0.0]
