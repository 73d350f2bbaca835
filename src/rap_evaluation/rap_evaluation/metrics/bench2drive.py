"""Bench2Drive's scores of driven routes, of sets of them, and of plans beside recorded driving.

Written from a description of the benchmark (version 0.0.4), not from its code.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, Strict

from rap_evaluation.metrics.case_file import CaseError, CaseInput, Number, Pair, parse_input
from rap_evaluation.metrics.comfort import savitzky_golay, within_bounds
from rap_raster.frames import FloatArray

ROUTES = 220
"""Routes of the benchmark; sums are divided by this, however many routes were driven."""

PENALTIES = {
    "COLLISION_PEDESTRIAN": 0.5,
    "COLLISION_VEHICLE": 0.6,
    "COLLISION_STATIC": 0.65,
    "TRAFFIC_LIGHT_INFRACTION": 0.7,
    "STOP_INFRACTION": 0.8,
    "SCENARIO_TIMEOUT": 0.7,
    "YIELD_TO_EMERGENCY_VEHICLE": 0.7,
}
"""What each event of a kind leaves of the score of a route."""

FAILURES = {
    "ROUTE_DEVIATION": "Agent deviated from the route",
    "VEHICLE_BLOCKED": "Agent got blocked",
}
"""Events that end a route, with their reason."""

LARGEST_SPEED_PERCENT = 1000.0
"""Speed relative to the traffic above which efficiency leaves a value out."""

CHUNK_SAMPLES = 20
"""Samples that are judged for comfort together."""

DECIMALS = 6
"""To which the scores of a route are rounded."""

_FILTER_WINDOW = 7
_FILTER_ORDER = 2
_STEPS_PER_SECOND = 2  # Of open-loop plans.
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")

Vector = Annotated[tuple[Number, Number, Number], Strict(strict=False)]


class Completion(CaseInput):
    """How much of a route was driven, in percent."""

    type: Literal["ROUTE_COMPLETION"]
    route_completed: Number


class OutsideLanes(CaseInput):
    """How much of what was driven lies outside the lanes of the route, in percent."""

    type: Literal["OUTSIDE_ROUTE_LANES_INFRACTION"]
    percentage: Number


class Infraction(CaseInput):
    """Any other event; only its kind counts."""

    type: Literal[
        "COLLISION_PEDESTRIAN",
        "COLLISION_VEHICLE",
        "COLLISION_STATIC",
        "TRAFFIC_LIGHT_INFRACTION",
        "STOP_INFRACTION",
        "SCENARIO_TIMEOUT",
        "YIELD_TO_EMERGENCY_VEHICLE",
        "MIN_SPEED_INFRACTION",
        "ROUTE_DEVIATION",
        "VEHICLE_BLOCKED",
    ]


RouteEvent: TypeAlias = Annotated[
    Completion | OutsideLanes | Infraction, Field(discriminator="type")
]
"""Something that happened on a route."""


class RouteInput(CaseInput):
    """A driven route: its events, and how it ended."""

    kind: Literal["route"]
    events: list[RouteEvent]
    timeout: bool
    failure_message: str


class MotionSample(CaseInput):
    """Motion of the ego at one tick as CARLA tells it, world frame, angles in degrees."""

    acceleration: Vector
    angular_velocity: Vector
    forward_vector: Vector
    right_vector: Vector

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """The four vectors."""
        return (
            self.acceleration,
            self.angular_velocity,
            self.forward_vector,
            self.right_vector,
        )


Motion: TypeAlias = dict[str, MotionSample]
"""Samples by step, in order."""


class ComfortInput(CaseInput):
    """The motion along one route."""

    kind: Literal["comfort"]
    metric_info: Motion


class RouteScores(CaseInput):
    """Scores of a route record."""

    score_composed: Number


class RouteRecord(CaseInput):
    """A route as the leaderboard records it."""

    save_name: str
    status: str
    infractions: dict[str, list[str]]
    scores: RouteScores

    @property
    def speed_messages(self) -> list[str]:
        """What was said about the speed of the ego relative to the traffic."""
        return self.infractions.get("min_speed_infractions", [])


class AggregateInput(CaseInput):
    """Route records, with the motion along each by its `save_name`."""

    kind: Literal["aggregate"]
    records: list[RouteRecord]
    metric_info: dict[str, Motion]


class OpenLoopInput(CaseInput):
    """A plan and the recorded path, 3 s at 2 Hz, metres."""

    kind: Literal["open_loop"]
    prediction: Annotated[list[Pair], Field(min_length=6, max_length=6)]
    ground_truth: Annotated[list[Pair], Field(min_length=6, max_length=6)]


class _Kind(CaseInput):
    kind: Literal["route", "comfort", "aggregate", "open_loop"]


Bench2DriveInput: TypeAlias = RouteInput | ComfortInput | AggregateInput | OpenLoopInput


def parse_bench2drive(content: object) -> Bench2DriveInput:
    """Validates the input of a `bench2drive` case of any kind.

    Raises:
        CaseError: If a field is missing or wrong.
    """
    models: dict[str, type[Bench2DriveInput]] = {
        "route": RouteInput,
        "comfort": ComfortInput,
        "aggregate": AggregateInput,
        "open_loop": OpenLoopInput,
    }
    return parse_input(content, models[parse_input(content, _Kind).kind])


def score_bench2drive(case: Bench2DriveInput) -> dict[str, object]:
    """Returns the result of a `bench2drive` case of any kind.

    Raises:
        CaseError: If the benchmark has no number for it.
    """
    if isinstance(case, RouteInput):
        return score_route(case)
    if isinstance(case, ComfortInput):
        return {"comfort": comfort_share(case.metric_info)}
    if isinstance(case, AggregateInput):
        return score_routes(case)
    return open_loop_errors(np.array(case.prediction), np.array(case.ground_truth))


def score_route(route: RouteInput) -> dict[str, object]:
    """Scores one route: completion in percent times the penalties of its events."""
    completion = completed_percent(route.events)
    penalty = route_penalty(route.events)
    infractions = sum(not isinstance(event, Completion) for event in route.events) + route.timeout
    return {
        "score_route": round(completion, DECIMALS),
        "score_penalty": round(penalty, DECIMALS),
        "score_composed": round(max(completion * penalty, 0.0), DECIMALS),
        "status": route_status(route, completion, infractions),
        "num_infractions": infractions,
    }


def completed_percent(events: list[RouteEvent]) -> float:
    """Returns how much of a route was driven, by the last event that says so."""
    completed = [event.route_completed for event in events if isinstance(event, Completion)]
    return completed[-1] if completed else 0.0


def route_penalty(events: list[RouteEvent]) -> float:
    """Returns the factor of a route's score, 0 to 1.

    Each event of `PENALTIES` counts; driving outside the route's lanes takes the share of the
    route that was driven there. Driving slower than the traffic costs nothing here.
    """
    penalty = 1.0
    for event in events:
        if isinstance(event, OutsideLanes):
            penalty *= 1.0 - event.percentage / 100.0
        penalty *= PENALTIES.get(event.type, 1.0)
    return penalty


def route_status(route: RouteInput, completion: float, infractions: int) -> str:
    """Tells how a route ended: `Perfect`, `Completed`, or `Failed` and why, if known."""
    if completion >= 100.0:
        return "Completed" if infractions else "Perfect"
    reasons = [FAILURES[event.type] for event in route.events if event.type in FAILURES]
    if not reasons and route.timeout:
        reasons = ["Agent timed out"]
    reason = reasons[-1] if reasons else route.failure_message
    return f"Failed - {reason}" if reason else "Failed"


def score_routes(case: AggregateInput) -> dict[str, object]:
    """Scores a set of routes; both scores are shares of all routes of the benchmark."""
    composed = [record.scores.score_composed for record in case.records]
    return {
        "driving_score": sum(composed) / ROUTES,
        "success_rate": sum(map(is_success, case.records)) / ROUTES,
        "efficiency": efficiency(case.records),
        "comfort": _mean([_recorded_comfort(record, case) for record in case.records]),
    }


def is_success(record: RouteRecord) -> bool:
    """Tells whether a route was completed without any infraction but slow driving."""
    infractions = (
        messages for name, messages in record.infractions.items() if name != "min_speed_infractions"
    )
    return record.status in ("Completed", "Perfect") and not any(infractions)


def efficiency(records: list[RouteRecord]) -> float | None:
    """Returns the speed relative to the traffic around, in percent.

    The mean over routes that say something about it, each the mean of what it says. Values above
    `LARGEST_SPEED_PERCENT` come from standing traffic and do not count.

    Returns:
        None if no route says anything.

    Raises:
        CaseError: If nothing is left of a route; the benchmark divides by zero there.
    """
    return _mean([_relative_speed(record) for record in records if record.speed_messages])


def comfort_share(motion: Motion) -> float:
    """Returns the share of a route that is driven comfortably, 0 to 1.

    The route is judged in full chunks of `CHUNK_SAMPLES`, what is left over is dropped; a shorter
    route is judged as a whole. A chunk is filtered on its own, and comfortable if all its signals
    stay within NAVSIM's bounds.

    Raises:
        CaseError: If there are too few samples to filter.
    """
    if len(motion) <= _FILTER_ORDER:
        expected = f"expected more than {_FILTER_ORDER} samples, got {len(motion)}"
        raise CaseError(f"metric_info: {expected}")
    chunk = min(CHUNK_SAMPLES, len(motion))
    count = len(motion) // chunk
    vectors = np.array([sample.vectors for sample in motion.values()])
    chunks = vectors[: count * chunk].reshape(count, chunk, *vectors.shape[1:])
    return float(within_bounds(motion_signals(chunks)).all(axis=-1).mean())


def motion_signals(vectors: FloatArray) -> tuple[FloatArray, ...]:
    """Filters N stretches of motion for comparison with NAVSIM's comfort bounds.

    The benchmark's own peculiarities: samples are 0.05 s apart but taken as 0.1 s; the yaw rate
    is in degrees per second, unwrapped like an angle, and compared with bounds in radians; and it
    stands in for the yaw acceleration too.

    Args:
        vectors: (N, T, 4, 3) `MotionSample.vectors`.

    Returns:
        Six (N, T) signals in the order of `comfort.COMFORT_BOUNDS`.
    """
    acceleration, rotation, forward, right = np.moveaxis(vectors, 2, 0)
    along = np.sum(acceleration[..., :2] * forward[..., :2], axis=-1)
    across = np.sum(acceleration[..., :2] * right[..., :2], axis=-1)
    yaw_rate = _filtered(np.unwrap(rotation[..., 2]))
    return (
        _filtered(along),
        _filtered(across),
        _jerk(np.hypot(along, across)),
        _jerk(along),
        yaw_rate,
        yaw_rate,
    )


def open_loop_errors(plan: FloatArray, driven: FloatArray) -> dict[str, object]:
    """Measures how far a plan is from the recorded path.

    Args:
        plan: (6, 2) metres, 0.5 s to 3 s.
        driven: (6, 2) metres, at the same times.

    Returns:
        Distance at each step, and its mean over the first 1 s, 2 s and 3 s, as VAD and UniAD
        report it.
    """
    errors = np.linalg.norm(plan - driven, axis=1)
    means = {
        f"l2_mean_{seconds}s": errors[: seconds * _STEPS_PER_SECOND].mean() for seconds in (1, 2, 3)
    }
    return {**means, "l2_per_step": errors}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _recorded_comfort(record: RouteRecord, case: AggregateInput) -> float:
    if record.save_name not in case.metric_info:
        raise CaseError(f"metric_info.{record.save_name}: Field required")
    return comfort_share(case.metric_info[record.save_name])


def _relative_speed(record: RouteRecord) -> float:
    shares = [_SHARE.search(message) for message in record.speed_messages]
    values = [float(share[1]) for share in shares if share]
    counted = _mean([value for value in values if value <= LARGEST_SPEED_PERCENT])
    if counted is None:
        raise CaseError(f"records: '{record.save_name}' has no usable speed relative to traffic")
    return counted


def _filtered(values: FloatArray, derivative: int = 0) -> FloatArray:
    window = min(_FILTER_WINDOW, values.shape[-1])
    return savitzky_golay(values, window, order=_FILTER_ORDER, derivative=derivative)


def _jerk(acceleration: FloatArray) -> FloatArray:
    return _filtered(_filtered(acceleration), derivative=1)
