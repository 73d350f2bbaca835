"""Cases of `two-stage` and `extended-comfort`: scored frames and simulated plans as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, Strict

from rap_evaluation.metrics.case_file import CaseError, CaseInput, Number, parse_input
from rap_evaluation.metrics.comfort import (
    JERK_WINDOW,
    extended_comfort_rms,
    is_extended_comfortable,
)
from rap_evaluation.metrics.frame_score import EXTENDED_COMFORT, SUB_SCORES
from rap_evaluation.metrics.pdm_scene import STATE_SIZE, STATES
from rap_evaluation.metrics.two_stage import (
    COLUMNS,
    ScoredFrames,
    StagedScene,
    one_stage_score,
    two_stage_score,
)
from rap_raster.frames import FloatArray

State = Annotated[list[Number], Field(min_length=STATE_SIZE, max_length=STATE_SIZE)]
"""A simulated state; its columns are `StateIndex`."""

Plan = Annotated[list[State], Field(min_length=STATES, max_length=STATES)]
"""The simulated states of a plan."""

SubScore = Annotated[Number, Field(ge=0.0, le=1.0)]

TokenPair = Annotated[tuple[str, str], Strict(strict=False)]
"""A follow-up and the one before it."""

SceneTokens = Annotated[
    tuple[str, str, Annotated[list[TokenPair], Field(min_length=1)]], Strict(strict=False)
]
"""A recorded frame, the one before it, and their follow-ups."""


class FrameRow(CaseInput):
    """A scored frame; the official code makes no number of a set with a failed one in it."""

    token: str
    valid: Literal[True]
    log_name: str
    frame_type: Literal["ORIGINAL", "SYNTHETIC"]
    start_time: Number
    endpoint_x: Number
    endpoint_y: Number
    start_point_x: Number
    start_point_y: Number
    no_at_fault_collisions: SubScore
    drivable_area_compliance: SubScore
    driving_direction_compliance: SubScore
    traffic_light_compliance: SubScore
    ego_progress: SubScore
    time_to_collision_within_bound: SubScore
    lane_keeping: SubScore
    history_comfort: SubScore
    ego_simulated_states: Plan


class StageInput(CaseInput):
    """Scored frames to aggregate; `mapping` is there in two stages only."""

    kind: Literal["one_stage", "two_stage"]
    rows: Annotated[list[FrameRow], Field(min_length=1)]
    mapping: Annotated[list[SceneTokens], Field(min_length=1)] | None = None


class ExtendedComfortInput(CaseInput):
    """Two plans; `overlap_start` is how many steps the previous one is older."""

    current_states: Plan
    previous_states: Plan
    overlap_start: Annotated[int, Field(ge=1, le=STATES - JERK_WINDOW)]


def parse_stage(content: object) -> StageInput:
    """Validates the input of a `two-stage` case.

    Raises:
        CaseError: If a field is missing or wrong, or a token is there twice.
    """
    case = parse_input(content, StageInput)
    if case.kind == "two_stage" and case.mapping is None:
        raise CaseError("input: mapping: Field required")
    token, count = Counter(row.token for row in case.rows).most_common(1)[0]
    if count > 1:
        raise CaseError(f"input: rows: token '{token}' is there {count} times")
    return case


def parse_extended_comfort(content: object) -> ExtendedComfortInput:
    """Validates the input of an `extended-comfort` case.

    Raises:
        CaseError: If a field is missing or wrong.
    """
    return parse_input(content, ExtendedComfortInput)


def score_extended_comfort(case: ExtendedComfortInput) -> dict[str, object]:
    """Returns the result of an `extended-comfort` case."""
    current, previous = np.array(case.current_states), np.array(case.previous_states)
    rms = extended_comfort_rms(current[: -case.overlap_start], previous[case.overlap_start :])
    return {"rms": rms, EXTENDED_COMFORT: int(is_extended_comfortable(rms))}


def score_stage(case: StageInput) -> dict[str, object]:
    """Returns the result of a `two-stage` case of either kind."""
    frames = scored_frames(case.rows)
    if case.kind == "one_stage" or case.mapping is None:
        return _one_stage(frames)
    scenes = {  # Of an entry that is there twice the last counts.
        (current, previous): StagedScene(current, previous, tuple(follow_ups))
        for current, previous, follow_ups in case.mapping
    }
    return _two_stage(frames, list(scenes.values()))


def scored_frames(rows: list[FrameRow]) -> ScoredFrames:
    """Returns rows as arrays."""
    return ScoredFrames(
        rows={row.token: index for index, row in enumerate(rows)},
        logs=tuple(row.log_name for row in rows),
        recorded=np.array([row.frame_type == "ORIGINAL" for row in rows]),
        times_s=np.array([row.start_time for row in rows]),
        endpoints_m=np.array([(row.endpoint_x, row.endpoint_y) for row in rows]),
        starts_m=np.array([(row.start_point_x, row.start_point_y) for row in rows]),
        sub_scores=np.array([[getattr(row, name) for name in SUB_SCORES] for row in rows]),
        states=np.array([row.ego_simulated_states for row in rows]),
    )


def _one_stage(frames: ScoredFrames) -> dict[str, object]:
    score = one_stage_score(frames)
    return {
        "mapping": score.predecessors,
        "score": _by_token(frames, score.scores),
        EXTENDED_COMFORT: _by_token(frames, score.extended_comfort),
        "average": _by_column(score.average),
    }


def _two_stage(frames: ScoredFrames, scenes: list[StagedScene]) -> dict[str, object]:
    score = two_stage_score(frames, scenes)
    return {
        "weight": _by_token(frames, score.weights),
        EXTENDED_COMFORT: _by_token(frames, score.extended_comfort),
        "score": _by_token(frames, score.scores),
        "stage_one": _by_column(score.stage_one),
        "stage_two": _by_column(score.stage_two),
        "combined": _by_column(score.combined),
        "effective_samples": score.effective_samples,
        "uniform_groups": score.uniform_groups,
        "nearest": score.nearest,
    }


def _by_token(frames: ScoredFrames, values: FloatArray) -> dict[str, float]:
    return dict(zip(frames.rows, values.tolist(), strict=True))


def _by_column(values: FloatArray) -> dict[str, float]:
    return dict(zip(COLUMNS, values.tolist(), strict=True))
