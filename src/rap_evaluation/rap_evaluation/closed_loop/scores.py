"""How good a drive was: completion, penalties, comfort; after Bench2Drive's driving score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rap_evaluation.closed_loop.drive import GOAL_M, Drive
from rap_evaluation.closed_loop.events import Collision
from rap_evaluation.metrics.pdm_scene import DT_S, StateIndex
from rap_raster.scene import ObjectClass

PEDESTRIAN_PENALTY, VEHICLE_PENALTY, RED_LIGHT_PENALTY = 0.5, 0.6, 0.7
"""Factors per event. Source: Bench2Drive `statistics_manager.py`."""


@dataclass(frozen=True, slots=True)
class RouteScore:
    """The figures of one drive.

    Attributes:
        completion: Share of the route, 0 to 1.
        off_road_share: Part of the driven distance with a corner off the road.
        penalty: Product of all penalties.
        score: 100 completion * penalty, as driving scores are given.
        events_off_road: How often the ego left the road.
        collisions_at_fault: How many.
        collisions_not_at_fault: How many.
        red_lights: How many were run.
    """

    completion: float
    off_road_share: float
    penalty: float
    score: float
    events_off_road: int
    collisions_at_fault: int
    collisions_not_at_fault: int
    red_lights: int


def score_drive(drive: Drive) -> RouteScore:
    """Scores a drive.

    Collisions that others are to blame for cost nothing; leaving the road costs the share of the
    distance driven off it, as leaving the route's lanes does in Bench2Drive.
    """
    events = drive.events
    at_fault = [collision for collision in events.collisions if collision.at_fault]
    off_road_share = _off_road_share(drive)
    penalty = (
        float(np.prod([collision_penalty(collision) for collision in at_fault]))
        * RED_LIGHT_PENALTY ** len(events.red_light_steps)
        * (1.0 - off_road_share)
    )
    completion = _completion(drive)
    return RouteScore(
        completion=completion,
        off_road_share=off_road_share,
        penalty=penalty,
        score=100.0 * completion * penalty,
        events_off_road=len(runs(events.off_road_steps)),
        collisions_at_fault=len(at_fault),
        collisions_not_at_fault=len(events.collisions) - len(at_fault),
        red_lights=len(events.red_light_steps),
    )
