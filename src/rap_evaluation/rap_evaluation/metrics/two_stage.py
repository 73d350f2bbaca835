"""How NAVSIM v2 makes one number of many scored frames, in one stage and in two.

Two stages imitate a closed loop: a plan is scored in a recorded frame, then the planner is scored
again in rendered follow-up scenes that start near the end of that plan. Everything is done twice,
half a second apart, which gives each frame a neighbor to compare its plan with.

Source: NAVSIM v2.2 `run_pdm_score.py:187-322`, `run_pdm_score_one_stage.py:85-228`,
`scene_aggregator.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rap_evaluation.metrics.comfort import extended_comfort_rms, is_extended_comfortable
from rap_evaluation.metrics.frame_score import EXTENDED_COMFORT, SUB_SCORES, frame_scores
from rap_evaluation.metrics.pdm_scene import DT_S
from rap_raster.frames import FloatArray

VARIANCE_M2 = 0.1
"""Of the weight of a follow-up scene over its distance. Source: `scene_aggregator.py:16`."""

NO_WEIGHT = 1e-8
"""Sum of weights up to which all follow-ups count the same. Source: `numpy.isclose` to 0."""

LARGEST_GAP_S = 0.55
"""Between the two frames of a pair. Source: `run_pdm_score_one_stage.py`, `scene_aggregator.py`."""

COLUMNS = (*SUB_SCORES, EXTENDED_COMFORT, "score")
"""What is averaged over frames."""


class AggregationError(ValueError):
    """Frames that do not fit together; the text names the frame and the reason in one line."""


@dataclass(frozen=True, slots=True)
class ScoredFrames:
    """N frames whose plans were scored one by one.

    Attributes:
        rows: Row of each of the N frames by its token, in order.
        logs: (N,) names of the logs they are from.
        recorded: (N,) True for recorded frames, False for rendered follow-ups.
        times_s: (N,) start of the plan.
        endpoints_m: (N, 2) last pose of the plan as predicted (not as driven), map frame.
        starts_m: (N, 2) rear axle at the start of the plan, map frame.
        sub_scores: (N, 8) columns `frame_score.SUB_SCORES`.
        states: (N, 41, 11) simulated rear-axle states of the plan.
    """

    rows: dict[str, int]
    logs: tuple[str, ...]
    recorded: npt.NDArray[np.bool_]
    times_s: FloatArray
    endpoints_m: FloatArray
    starts_m: FloatArray
    sub_scores: FloatArray
    states: FloatArray


@dataclass(frozen=True, slots=True)
class StagedScene:
    """Which frames make one two-stage scene; every pair is half a second apart.

    Attributes:
        current: Token of the recorded frame.
        previous: Token of the recorded frame before it.
        follow_ups: Tokens of the rendered frames after `current`, each with the one before it.
    """

    current: str
    previous: str
    follow_ups: tuple[tuple[str, str], ...]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All pairs of a frame and the one before it."""
        return ((self.current, self.previous), *self.follow_ups)


@dataclass(frozen=True, slots=True)
class StagedScore:
    """The result of two stages.

    Attributes:
        weights: (N,) of each frame in its stage.
        extended_comfort: (N,) 0 or 1.
        scores: (N,) frame scores.
        stage_one: (10,) means of `COLUMNS` over groups.
        stage_two: (10,) the same of the weighted follow-ups.
        combined: (10,) means of the products of both stages; its score is the EPDMS.
        effective_samples: Mean over groups of 1 / sum of squared weights: how many follow-ups
            really count.
        uniform_groups: Groups without a follow-up nearby, where all count the same.
        nearest: (K,) the EPDMS if only the k nearest follow-ups counted, equally, k = 1 to K.
    """

    weights: FloatArray
    extended_comfort: FloatArray
    scores: FloatArray
    stage_one: FloatArray
    stage_two: FloatArray
    combined: FloatArray
    effective_samples: float
    uniform_groups: int
    nearest: FloatArray


@dataclass(frozen=True, slots=True)
class OneStageScore:
    """The result of one stage.

    Attributes:
        predecessors: Token of the frame before each frame that has one.
        extended_comfort: (N,) 0 or 1; NaN for frames without a predecessor.
        scores: (N,) frame scores.
        average: (10,) means of `COLUMNS`, each over the frames that have a value.
    """

    predecessors: dict[str, str]
    extended_comfort: FloatArray
    scores: FloatArray
    average: FloatArray


def two_stage_score(frames: ScoredFrames, scenes: Sequence[StagedScene]) -> StagedScore:
    """Aggregates frames in two stages.

    Each scene has two groups: the recorded frame with its follow-ups, and the same half a second
    earlier. A group's score is the first stage times the weighted mean of the second.

    Raises:
        AggregationError: If a scene names an unknown token, a token twice, or a wrong pair, or a
            frame is in no scene; the official code refuses these too.
    """
    pairs = [pair for scene in scenes for pair in scene.pairs]
    _check_tokens(frames, [token for pair in pairs for token in pair])
    comfort = _extended_comfort(frames, pairs)
    for current, previous in pairs:
        comfort[frames.rows[previous]] = comfort[frames.rows[current]]
    scores = frame_scores(frames.sub_scores, comfort)
    table = np.column_stack([frames.sub_scores, comfort, scores])
    groups = [group for scene in scenes for group in _groups(frames, scene)]
    first = table[[group.first for group in groups]]
    second = np.array([group.weights @ table[group.follow_ups] for group in groups])
    return StagedScore(
        weights=_frame_weights(len(scores), groups),
        extended_comfort=comfort,
        scores=scores,
        stage_one=first.mean(axis=0),
        stage_two=second.mean(axis=0),
        combined=(first * second).mean(axis=0),
        effective_samples=float(np.mean([1.0 / np.sum(group.weights**2) for group in groups])),
        uniform_groups=sum(_is_far(group.squared_m2) for group in groups),
        nearest=_nearest_scores(scores, groups),
    )


def one_stage_score(frames: ScoredFrames) -> OneStageScore:
    """Averages frames; those with a predecessor also by the comfort of changing plans.

    Raises:
        AggregationError: If no frame has a predecessor, which the official code refuses too.
    """
    before = predecessors(frames)
    if not before:
        raise AggregationError(f"no frame starts up to {LARGEST_GAP_S} s after another of its log")
    comfort = _extended_comfort(frames, before.items())
    scores = frame_scores(frames.sub_scores, comfort)
    table = np.column_stack([frames.sub_scores, comfort, scores])
    return OneStageScore(before, comfort, scores, np.nanmean(table, axis=0))


def predecessors(frames: ScoredFrames) -> dict[str, str]:
    """Finds the frame shortly before each recorded frame of the same log, where there is one."""
    found = {}
    tokens = list(frames.rows)
    for log in dict.fromkeys(frames.logs):
        rows = [row for row, name in enumerate(frames.logs) if name == log and frames.recorded[row]]
        rows.sort(key=lambda row: frames.times_s[row])
        for earlier, later in pairwise(rows):
            if frames.times_s[later] - frames.times_s[earlier] <= LARGEST_GAP_S:
                found[tokens[later]] = tokens[earlier]
    return found


def proximity_weights(squared_m2: FloatArray) -> FloatArray:
    """Weighs n follow-ups by how near they start to where the first plan ended.

    A Gauss curve of standard deviation 0.32 m, so that the nearest one takes almost everything;
    heading and speed do not count.

    Args:
        squared_m2: (n,) squared distances.

    Returns:
        (n,) weights with sum 1; all the same if none is near.
    """
    if _is_far(squared_m2):
        return np.full(len(squared_m2), 1.0 / len(squared_m2))
    weights = _kernel(squared_m2)
    return np.asarray(weights / weights.sum())


def pair_comfort(frames: ScoredFrames, current: str, previous: str) -> float:
    """Returns the extended comfort of a frame and the one before it: 0 or 1.

    Raises:
        AggregationError: If they are not more than 0 and less than 0.55 s apart.
    """
    now, before = frames.rows[current], frames.rows[previous]
    gap_s = frames.times_s[now] - frames.times_s[before]
    steps = round(gap_s / DT_S)
    if steps < 1 or gap_s >= LARGEST_GAP_S:
        expected = f"{DT_S} s to {LARGEST_GAP_S} s"
        raise AggregationError(
            f"'{current}' is {gap_s:g} s after '{previous}', expected {expected}"
        )
    rms = extended_comfort_rms(frames.states[now, :-steps], frames.states[before, steps:])
    return float(is_extended_comfortable(rms))


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of a first-stage frame and its n follow-ups; (n,) distances and weights of these."""

    first: int
    follow_ups: npt.NDArray[np.int64]
    squared_m2: FloatArray
    weights: FloatArray


def _groups(frames: ScoredFrames, scene: StagedScene) -> list[_Group]:
    firsts = (scene.current, scene.previous)
    follow_ups = zip(*scene.follow_ups, strict=True)
    return [_group(frames, *names) for names in zip(firsts, follow_ups, strict=True)]


def _group(frames: ScoredFrames, first: str, follow_ups: Sequence[str]) -> _Group:
    row = frames.rows[first]
    rows = np.array([frames.rows[token] for token in follow_ups])
    offsets = frames.starts_m[rows] - frames.endpoints_m[row]
    squared_m2 = np.sum(offsets**2, axis=1)
    return _Group(row, rows, squared_m2, proximity_weights(squared_m2))


def _kernel(squared_m2: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-squared_m2 / (2.0 * VARIANCE_M2)))


def _is_far(squared_m2: FloatArray) -> bool:
    return bool(_kernel(squared_m2).sum() <= NO_WEIGHT)


def _check_tokens(frames: ScoredFrames, tokens: list[str]) -> None:
    for token, count in Counter(tokens).items():
        if token not in frames.rows:
            raise AggregationError(f"mapping: '{token}' is not among the frames")
        if count > 1:
            raise AggregationError(f"mapping: '{token}' is there {count} times")
    for token in sorted(frames.rows.keys() - set(tokens)):
        raise AggregationError(f"mapping: '{token}' of the frames is not in it")


def _extended_comfort(frames: ScoredFrames, pairs: Iterable[tuple[str, str]]) -> FloatArray:
    """Returns (N,) extended comfort of the later frame of each pair, NaN elsewhere."""
    comfort = np.full(len(frames.rows), np.nan)
    for current, previous in pairs:
        comfort[frames.rows[current]] = pair_comfort(frames, current, previous)
    return comfort


def _frame_weights(count: int, groups: list[_Group]) -> FloatArray:
    weights = np.full(count, np.nan)
    for group in groups:
        weights[group.first] = 1.0
        weights[group.follow_ups] = group.weights
    return weights


def _nearest_scores(scores: FloatArray, groups: list[_Group]) -> FloatArray:
    """Returns the score by the k nearest follow-ups of each group, or all if it has fewer."""
    most = max(len(group.follow_ups) for group in groups)
    ordered = [scores[group.follow_ups[np.argsort(group.squared_m2)]] for group in groups]
    firsts = scores[[group.first for group in groups]]
    return np.array(
        [np.mean(firsts * [second[:k].mean() for second in ordered]) for k in range(1, most + 1)]
    )
